// 2000 conditional branches in a row, taken or not by the bits of a register, then 2000 jumps of every distance.
// prints: branches
// build static: gcc -nostdlib -static
// exact
#include "check.inc"
.globl _start
_start:	mov	$10, %ebp
	xor	%eax, %eax
round:	mov	$0x9e3779b97f4a7c15, %rdx
.rept 2000
	rol	%rdx
	jc	1f
	inc	%eax
1:
.endr
	dec	%ebp
	jnz	round
	CHECK_EQ($8120, %eax)
.rept 500
	jmp	2f
	.skip	100, 0xcc
2:	inc	%eax
	jmp	3f
	.skip	200, 0xcc
4:	inc	%eax
	jmp	5f
3:	inc	%eax
	jmp	4b
5:
.endr
	CHECK_EQ($8120 + 1500, %eax)
	FINISH	"branches"
