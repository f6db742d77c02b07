// Flags: all sixteen conditions after each kind of arithmetic, taken by setcc, jcc and cmovcc at once, behind a jump, a call, a
// ret, an indirect jump and a system call, on pairs of operands at the edges. Only flags that the manual defines are read. What all
// conditions gave is folded into a number, which is that of the processor.
// prints: flags
// build static: gcc -nostdlib -static
// exact
#include "check.inc"
#define ALL o, no, b, ae, e, ne, be, a, s, ns, p, np, l, ge, le, g

.macro fold			// r15 = rotate(r15, 5) ^ cl, without flags that matter.
	rol	$5, %r15
	movzx	%cl, %ecx
	xor	%rcx, %r15
.endm
// One operation with one condition: seen at once, behind a jump, in a callee, after a ret, behind an indirect jump.
.macro one cc, operation:vararg
	xor	%ecx, %ecx
	mov	%r12, %rax
	mov	%r13, %rdx
	\operation
	set\cc	%cl
	fold
	mov	%r12, %rax
	mov	%r13, %rdx
	mov	$3, %ecx
	\operation
	jmp	1f
	ud2
1:	cmov\cc	%r13, %rcx
	fold
	mov	%r12, %rax
	mov	%r13, %rdx
	mov	$5, %ecx
	\operation
	call	2f
	jmp	3f
2:	ret
3:	j\cc	4f
	mov	$6, %ecx
4:	fold
	lea	5f(%rip), %r11
	mov	%r12, %rax
	mov	%r13, %rdx
	mov	$7, %ecx
	\operation
	jmp	*%r11
	ud2
5:	j\cc	6f
	mov	$8, %ecx
6:	fold
.endm
.macro every operation:vararg
.irp cc, ALL
	one	\cc, \operation
.endr
.endm

.globl _start
_start:	lea	pairs(%rip), %rbx
	xor	%r15d, %r15d
next:	mov	(%rbx), %r12
	mov	8(%rbx), %r13
	every	add %rdx, %rax
	every	sub %edx, %eax
	every	cmp %dl, %al
	every	test %rdx, %rax
	every	and %dx, %ax
	every	neg %rax
	every	xadd %rdx, %rax
	every	cmpxchg %rdx, %r12
	every	inc %eax
	// Carry in: from the operation before, across a block.
.irp cc, ALL
	one	\cc, bt $3, %rdx; adc %rdx, %rax
	one	\cc, bt $3, %rdx; sbb $0, %eax
	one	\cc, cmp %eax, %edx; dec %rax		// Carry survives dec,
	one	\cc, cmp %eax, %edx; not %rax		// and everything survives not,
	one	\cc, cmp %rax, %rdx; mov $0, %cl; shl %cl, %rax // a shift by no bits,
	one	\cc, cmp %rax, %rdx; lea 8(%rax), %rdx; bswap %rax // lea, bswap,
	one	\cc, cmp %rax, %rdx; push %rax; pop %rcx	// push and pop.
	one	\cc, shl %rax
	one	\cc, sar $1, %edx
.endr
.irp cc, o, no, b, ae		// What a rotation or a product leaves alone or undefined is not asked.
	one	\cc, ror $1, %rax
	one	\cc, rcl $1, %eax
	one	\cc, imul %rdx, %rax
.endr
.irp cc, e, ne
	one	\cc, bsf %rdx, %rax
	one	\cc, bsr %eax, %edx
.endr
	add	$16, %rbx
	cmpq	$0x4711, (%rbx)
	jne	next
	// A system call keeps the flags; r11 holds them and rcx the next address.
	mov	$39, %eax		// getpid
	stc
	syscall
here:	jnc	9f
	lea	here(%rip), %rdx
	CHECK_EQ(%rcx, %rdx)
	test	$1, %r11b
	jz	9f
	// pushf and popf, lahf and sahf, cld and std, cmc.
	stc
	std
	pushf
	cld
	clc
	popf
	jnc	9f
	pushf
	pop	%rax
	cld
	and	$0xc01, %eax
	CHECK_EQ($0x401, %eax)
	mov	$0x0100, %eax		// sahf takes ah: CF only.
	sahf
	jnc	9f
	jz	9f
	cmc
	jc	9f
	lahf
	CHECK_EQ($2, %ah)
	mov	$0x9b693eeb51b9d489, %rax
	CHECK_EQ(%r15, %rax)
	FINISH	"flags"
9:	FAIL

.data
pairs:	.quad	0, 0
	.quad	1, -1
	.quad	0x7fffffff7fff7f7f, 0x0000000100010101
	.quad	0x8000000080008080, 0x8000000080008080
	.quad	0xdeadbeef12345678, 0x0123456789abcdef
	.quad	0x4711
