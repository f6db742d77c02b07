// Expects: 20200018 instructions
// (inside the region.) The program comes late to the read of each answer, long after our thread has seen the marker: the
// body 200004, and of the end marker 5, the detour 20000004, 5. The detour of the begin marker must not be in it.
.macro mark text
	mov	x0, #198
	adr	x1, 9f
	mov	x2, #(8f - 9f)
	mov	w8, #64			// write
	svc	#0
	bl	detour
	mov	x0, #199
	adr	x1, answer
	mov	x2, #1
	mov	w8, #63			// read
	svc	#0
.pushsection .rodata
9:	.ascii	"\text\n"
8:
.popsection
.endm

.global _start
_start:	mark	begin:late
	bl	spin
	mark	end:late
	mov	w0, #0
	mov	w8, #93			// exit
	svc	#0

spin:	movz	w1, #(100000 & 0xffff)
	movk	w1, #(100000 >> 16), lsl #16
1:	subs	w1, w1, #1
	b.ne	1b
	ret

detour:	movz	w1, #(10000000 & 0xffff)
	movk	w1, #(10000000 >> 16), lsl #16
1:	subs	w1, w1, #1
	b.ne	1b
	ret

.bss
answer:	.skip 1
