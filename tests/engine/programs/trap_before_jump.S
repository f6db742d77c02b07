// A handler of `int3` sees the address behind it, also where a jump stands there.
// prints: traps
// build static: gcc -nostdlib -static
#include "check.inc"
.globl _start
_start:	mov	$13, %eax		// rt_sigaction(SIGTRAP)
	mov	$5, %edi
	lea	action(%rip), %rsi
	xor	%edx, %edx
	mov	$8, %r10d
	syscall
	xor	%r12d, %r12d
	int3
1:	jmp	2f
	FAIL
2:	lea	1b(%rip), %rax
	CHECK_EQ(%rax, %r12)
	int3
5:	mov	%r12, %r13
	lea	5b(%rip), %rax
	CHECK_EQ(%rax, %r13)
	FINISH	"traps"

handler:
	mov	168(%rdx), %rax		// The context's rip becomes its r12.
	mov	%rax, 72(%rdx)
	ret
restorer:
	mov	$15, %eax		// rt_sigreturn
	syscall

.data
action:	.quad	handler, 0x04000004, restorer, 0	// SA_RESTORER | SA_SIGINFO
