// Expects: 605 instructions
// A hundred system calls and a hundred page faults cost nothing in user mode: 2, a hundred rounds of 6, 3 to exit.
.global _start
_start:	mov	w9, #100
	adr	x10, pages
1:	str	w9, [x10]
	add	x10, x10, #4096
	mov	w8, #172		// getpid
	svc	#0
	subs	w9, w9, #1
	b.ne	1b
	mov	w0, #0
	mov	w8, #93			// exit
	svc	#0

.bss
.balign 4096
pages:	.skip 100 * 4096
