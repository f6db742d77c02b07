// Expects: 400031 instructions
// 200022 in the parent: 7 to the fork, 1, the loop with its call 200004, 1, 9 to wait and exit.
// 200009 in the child, which begins behind the svc: 1, the loop with its call 200004, 1, 3 to exit.
.global _start
_start:	mov	x0, #17			// SIGCHLD
	mov	x1, #0
	mov	x2, #0
	mov	x3, #0
	mov	x4, #0
	mov	w8, #220		// clone
	svc	#0
	mov	x20, x0
	bl	spin
	cbnz	x20, 2f
	mov	w0, #0
	mov	w8, #93			// exit
	svc	#0
2:	mov	x0, x20
	mov	x1, #0
	mov	x2, #0
	mov	x3, #0
	mov	w8, #260		// wait4
	svc	#0
	mov	w0, #0
	mov	w8, #93			// exit
	svc	#0

spin:	movz	w1, #(100000 & 0xffff)
	movk	w1, #(100000 >> 16), lsl #16
1:	subs	w1, w1, #1
	b.ne	1b
	ret
