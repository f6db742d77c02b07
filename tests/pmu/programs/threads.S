// Expects: 400022 instructions
// 200015 in the first thread: 8 to the clone, the loop with its call 200004, 3 to exit the thread. 200007 in the second.
.global _start
_start:	movz	w0, #0x0f00		// CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND
	movk	w0, #1, lsl #16		// | CLONE_THREAD
	adr	x1, stack
	mov	x2, #0
	mov	x3, #0
	mov	x4, #0
	mov	w8, #220		// clone
	svc	#0
	bl	spin
	mov	w0, #0
	mov	w8, #93			// exit: the process ends with its last thread
	svc	#0

spin:	movz	w1, #(100000 & 0xffff)
	movk	w1, #(100000 >> 16), lsl #16
1:	subs	w1, w1, #1
	b.ne	1b
	ret

.bss
.balign 16
.skip 4096
stack:
