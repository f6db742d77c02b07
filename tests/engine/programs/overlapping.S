// Jumps into the middle of instructions: the same bytes are executed under two decodings, both many times.
// prints: overlapping
// build static: gcc -nostdlib -static
// exact
#include "check.inc"
.globl _start
_start:	mov	$100, %ebp
round:	movl	$8, counter(%rip)
	xor	%eax, %eax
	xor	%ecx, %ecx
	call	outer
	CHECK_EQ($0x04c08366, %ecx)
	call	outer + 1
	CHECK_EQ($4, %eax)
	lea	outer + 1(%rip), %rdx
	call	*%rdx
	CHECK_EQ($8, %eax)
	call	prefixed
	CHECK_EQ($9, %eax)
	call	prefixed + 1		// Without its lock prefix.
	CHECK_EQ($10, %eax)
	dec	%ebp
	jnz	round
	FINISH	"overlapping"

// mov $0x04c08366, %ecx; ret, or from the second byte on: add $4, %ax; ret.
outer:	.byte	0xb9, 0x66, 0x83, 0xc0, 0x04
	ret
prefixed:
	lock incl counter(%rip)
	mov	counter(%rip), %eax
	ret
.data
counter: .long 8
