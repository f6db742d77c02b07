// Calls and the stack: ret imm16, calls and jumps through memory (rsp-relative, indexed, rip-relative), push and pop of rsp and
// of memory behind rsp, a called address that is the pushed one, enter and leave, xchg with a return address, ret as a jump.
// prints: stack
// build static: gcc -nostdlib -static
// build static-pie: gcc -nostdlib -static-pie
// exact
#include "check.inc"
.globl _start
_start:	lea	seven(%rip), %rax	// Nobody relocates a static-pie without a C library.
	mov	%rax, table(%rip)
	lea	eight(%rip), %rax
	mov	%rax, table + 8(%rip)
	mov	$50, %ebp
round:	mov	%rsp, %r15
	// ret imm16 drops two words more.
	push	$1
	push	$2
	call	drop
	CHECK_EQ(%rsp, %r15)
	// A call through memory at rsp: the operand is read before the push.
	lea	seven(%rip), %rax
	push	%rax
	call	*(%rsp)
	CHECK_EQ($7, %eax)
	lea	eight(%rip), %rax
	push	%rax
	call	*8(%rsp)
	CHECK_EQ($7, %eax)
	call	*(%rsp)
	CHECK_EQ($8, %eax)
	mov	$1, %ecx
	call	*-8(%rsp, %rcx, 8)
	CHECK_EQ($8, %eax)
	pop	%rax
	pop	%rax
	call	*table(%rip)
	CHECK_EQ($7, %eax)
	lea	table(%rip), %rdx
	call	*(%rdx, %rcx, 8)
	CHECK_EQ($8, %eax)
	// Jumps through rsp-relative memory.
	lea	1f(%rip), %rax
	push	%rax
	jmp	*(%rsp)
	FAIL
1:	pop	%rax
	// push rsp stores the value before the push; pop rsp loads it.
	push	%rsp
	CHECK_EQ(%r15, (%rsp))
	pop	%rsp
	CHECK_EQ(%rsp, %r15)
	push	$0x1234
	pushq	(%rsp)
	mov	(%rsp), %rax
	CHECK_EQ($0x1234, %rax)
	popq	8(%rsp)			// The address is computed after rsp has moved.
	mov	(%rsp), %rax
	CHECK_EQ($0x1234, %rax)
	mov	%r15, %rsp
	// A callee finds its caller's address on the stack.
	call	own
after_own:
	CHECK_EQ($0, %ecx)
	// ret as a jump, twice, to a pushed chain.
	lea	3f(%rip), %rax
	push	%rax
	lea	seven(%rip), %rax
	push	%rax
	ret
3:	CHECK_EQ($7, %eax)
	CHECK_EQ(%rsp, %r15)
	// A callee that returns elsewhere.
	call	skip
	ud2
	CHECK_EQ(%rsp, %r15)
	// enter and leave, with rbp saved around.
	mov	%rbp, %r14
	enter	$32, $0
	mov	%rbp, %rax
	sub	$32, %rax
	CHECK_EQ(%rsp, %rax)
	leave
	CHECK_EQ(%rbp, %r14)
	// 16-bit push and pop.
	pushw	$0x55
	popw	%ax
	CHECK_EQ($0x55, %ax)
	CHECK_EQ(%rsp, %r15)
	dec	%ebp
	jnz	round
	FINISH	"stack"

drop:	ret	$16
seven:	mov	$7, %eax
	ret
eight:	mov	$8, %eax
	ret
own:	mov	(%rsp), %rax
	lea	after_own(%rip), %rcx
	sub	%rcx, %rax
	mov	%eax, %ecx
	ret
skip:	addq	$2, (%rsp)
	ret
.data
.balign 8
table:	.quad	0, 0
