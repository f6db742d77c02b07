// loop, loope, loopne, jrcxz and jecxz, taken and not; none of them reads or writes a flag it should not.
// prints: loops
// build static: gcc -nostdlib -static
// exact
#include "check.inc"
.globl _start
_start:	mov	$1000, %ecx
	xor	%eax, %eax
1:	inc	%eax
	loop	1b
	CHECK_EQ($1000, %eax)
	mov	$100, %ecx		// Ends when eax is 60: ZF clear.
	xor	%eax, %eax
2:	inc	%eax
	cmp	$60, %eax
	loopne	2b
	CHECK_EQ($40, %ecx)
	mov	$100, %ecx
	xor	%eax, %eax
	xor	%ebx, %ebx
3:	inc	%ebx
	cmp	$30, %ebx
	setge	%al
	test	%eax, %eax
	loope	3b
	CHECK_EQ($70, %ecx)
	stc				// Flags live across loops and jrcxz.
	mov	$10, %ecx
4:	loop	4b
	jnc	9f
	xor	%eax, %eax		// ZF set, CF clear.
	jrcxz	5f
	jmp	9f
5:	jc	9f
	jnz	9f
	mov	$0x100000000, %rcx
	jrcxz	9f
	jecxz	6f
	jmp	9f
6:	mov	$0x100000002, %rcx	// ecx counts down, rcx's upper half clears.
	addr32 loop 7f
7:	CHECK_EQ($1, %rcx)
	xor	%ecx, %ecx		// 0 wraps to 2^64 - 1.
	loop	8f
	jmp	9f
8:	CHECK_EQ($-1, %rcx)
	FINISH	"loops"
9:	FAIL
