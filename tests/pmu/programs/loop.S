// Expects: 2000005 instructions
// Two, a million rounds of two, three to exit.
.global _start
_start:
	movz	w1, #(1000000 & 0xffff)
	movk	w1, #(1000000 >> 16), lsl #16
1:	subs	w1, w1, #1
	b.ne	1b
	mov	w0, #0
	mov	w8, #93			// exit
	svc	#0
