// Every shape of RIP-relative operand: with immediates of all sizes, shifts by an implied 1, lea, push, call, jump, SSE, rmw, lock.
// prints: relative
// build static: gcc -nostdlib -static
// build static-pie: gcc -nostdlib -static-pie
// exact
#include "check.inc"
.globl _start
_start:	lea	vector + 16(%rip), %rax	// Nobody relocates a static-pie without a C library.
	mov	%rax, address(%rip)
	lea	give(%rip), %rax
	mov	%rax, function(%rip)
	mov	$20, %ebp
round:	movq	$0x12345678, value(%rip)
	movb	$0x11, value + 4(%rip)
	movw	$0x2222, value + 6(%rip)
	mov	value(%rip), %rax
	mov	$0x2222001112345678, %rdx
	CHECK_EQ(%rax, %rdx)
	shlq	value(%rip)		// D1 /4: no immediate.
	shlq	$1, value(%rip)
	shrq	$2, value(%rip)		// C1 /5 with one.
	mov	$3, %cl
	rolq	%cl, value(%rip)
	rorq	$3, value(%rip)
	mov	value(%rip), %rax
	mov	$0x2222001112345678, %rdx
	CHECK_EQ(%rax, %rdx)
	cmpl	$0x12345678, value(%rip)
	jne	9f
	testb	$0x11, value + 4(%rip)
	jz	9f
	addl	$1, value(%rip)
	lock addw $1, value(%rip)
	cmpw	$0x567a, value(%rip)
	jne	9f
	imul	$3, value(%rip), %eax
	CHECK_EQ($0x369d036e, %eax)
	lea	value(%rip), %rbx
	CHECK_EQ(%rbx, address(%rip))
	movups	vector(%rip), %xmm1
	pshufd	$0x1b, vector(%rip), %xmm2
	movd	%xmm2, %eax
	CHECK_EQ($4, %eax)
	pinsrw	$2, value + 6(%rip), %xmm1
	pextrw	$2, %xmm1, %eax
	CHECK_EQ($0x2222, %eax)
	pushq	value(%rip)
	popq	copy(%rip)
	mov	copy(%rip), %rax
	CHECK_EQ(%rax, value(%rip))
	btsq	$40, copy(%rip)
	jc	9f
	xchg	%rax, copy(%rip)
	shldq	$4, %rax, copy(%rip)
	call	*function(%rip)
	CHECK_EQ($99, %eax)
	lea	1f(%rip), %rax
	mov	%rax, copy(%rip)
	jmp	*copy(%rip)
	ud2
1:	prefetcht0 value(%rip)
	movslq	value(%rip), %rax
	movzbl	value + 4(%rip), %eax
	CHECK_EQ($0x11, %eax)
	mov	%cs, copy(%rip)
	dec	%ebp
	jnz	round
	FINISH	"relative"
9:	FAIL

give:	mov	$99, %eax
	ret
.data
.balign 16
vector:	.long	1, 2, 3, 4
value:	.quad	0
copy:	.quad	0
address: .quad	0
function: .quad	0
