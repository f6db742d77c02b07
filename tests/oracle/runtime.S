// What a generated program stands on: takes down registers, catches faults, writes all of it at the end.
//
// A record is RECORD bytes: what it is (1 a snapshot, 2 a signal), then registers from byte 8 on, then the state that `xsave`
// or the kernel has saved, from byte 256 on. `layout.rs` has the same addresses; `compare.rs` reads the records.
#define SNAPSHOT_AT 0x800
#define FINISH_AT 0xc00

.section .runtime, "ax"
.globl _start
_start:	mov	$131, %eax		// sigaltstack
	lea	alternate(%rip), %rdi
	xor	%esi, %esi
	syscall
.irp signal, 4, 5, 7, 8, 11
	mov	$13, %eax		// rt_sigaction
	mov	$\signal, %edi
	lea	action(%rip), %rsi
	xor	%edx, %edx
	mov	$8, %r10d
	syscall
.endr
	mov	$158, %eax		// arch_prctl(ARCH_SET_FS)
	mov	$0x1002, %edi
	mov	$MEMORY + FS_BASE, %rsi
	syscall
#ifdef VOLATILE				// The same code in memory without a file.
	mov	$9, %eax		// mmap
	xor	%edi, %edi
	mov	$CODE_BYTES, %esi
	mov	$3, %edx
	mov	$0x22, %r10d
	mov	$-1, %r8
	xor	%r9d, %r9d
	syscall
	mov	%rax, %rbx
	mov	%rax, %rdi
	mov	$CODE, %rsi
	mov	$CODE_BYTES / 8, %ecx
	rep movsq
	mov	$25, %eax		// mremap(MREMAP_MAYMOVE | MREMAP_FIXED)
	mov	%rbx, %rdi
	mov	$CODE_BYTES, %esi
	mov	$CODE_BYTES, %edx
	mov	$3, %r10d
	mov	$CODE, %r8
	syscall
	mov	$10, %eax		// mprotect
	mov	$CODE, %rdi
	mov	$CODE_BYTES, %esi
	mov	$VOLATILE, %edx
	syscall
#endif
	lea	saved_rsp(%rip), %rsp
.irp register, rax, rbx, rcx, rdx, rsi, rdi, rbp, r8, r9, r10, r11, r12, r13, r14, r15
	mov	$0, %\register
.endr
	jmp	generated

.org SNAPSHOT_AT
	// Called with the stack pointer in saved_rsp.
	pushfq
	pushq	$2
	popfq				// The program may have asked for alignment faults.
	push	%r15
	push	%r14
	push	%r13
	push	%r12
	push	%r11
	push	%r10
	push	%r9
	push	%r8
	push	%rdi
	push	%rsi
	push	%rbp
	push	%rbx
	push	%rdx
	push	%rcx
	push	%rax
	mov	log(%rip), %rbx
	lea	RECORD(%rbx), %rbp
	lea	log_end(%rip), %rax
	cmp	%rax, %rbp
	ja	1f
	movq	$1, (%rbx)
	mov	%rsp, %rsi
	lea	8(%rbx), %rdi
	mov	$17, %ecx
	rep movsq
	mov	saved_rsp(%rip), %rax
	mov	%rax, (%rdi)
	mov	$STATES, %eax
	xor	%edx, %edx
	xsave64	256(%rbx)
	mov	%rbp, log(%rip)
1:	pop	%rax
	pop	%rcx
	pop	%rdx
	pop	%rbx
	pop	%rbp
	pop	%rsi
	pop	%rdi
	pop	%r8
	pop	%r9
	pop	%r10
	pop	%r11
	pop	%r12
	pop	%r13
	pop	%r14
	pop	%r15
	popfq
	ret

.org FINISH_AT
	lea	runtime_stack(%rip), %rsp
	lea	log_start(%rip), %rsi
	mov	log(%rip), %rdx
	sub	%rsi, %rdx
	call	write
	mov	$MEMORY, %rsi
	mov	$MEMORY_BYTES, %edx
	call	write
	xor	%edi, %edi
exit:	mov	$231, %eax
	syscall

write:	mov	$1, %eax
	mov	$1, %edi
	syscall
	cmp	%rax, %rdx
	mov	$4, %edi
	jne	exit
	ret

// A fault: noted, and the instruction is left out. Traps have moved on already. rdx is the context (sys/ucontext.h).
handler:
	mov	log(%rip), %rbx
	lea	RECORD(%rbx), %rbp
	lea	log_end(%rip), %rax
	cmp	%rax, %rbp
	ja	1f
	movq	$2, (%rbx)
	lea	8(%rbx), %rdi
	mov	$4, %ecx
	rep movsq			// siginfo: number, errno, code, address
	lea	40(%rdx), %rsi
	mov	$23, %ecx
	rep movsq			// All registers
	mov	224(%rdx), %rsi
	lea	256(%rbx), %rdi
	mov	$STATE_BYTES / 8, %ecx
	rep movsq
	mov	%rbp, log(%rip)
1:	andq	$~0x40cd5, 176(%rdx)	// Flags that the instruction did not set are nobody's.
	cmpl	$5, 8(%rbx)
	je	3f
	mov	168(%rdx), %rax
	mov	%rax, %rcx
	sub	$CODE, %rcx
	cmp	$CODE_BYTES, %rcx
	jae	2f
	lea	skips(%rip), %rdi
	movzbl	(%rdi,%rcx), %ecx
	mov	$3, %edi
	test	%ecx, %ecx
	jz	exit
	add	%rcx, %rax
	mov	%rax, 168(%rdx)
	ret
2:	mov	resume_at(%rip), %rax	// A jump to nowhere.
	mov	$3, %edi
	test	%rax, %rax
	jz	exit
	mov	%rax, 168(%rdx)
	movq	$0, resume_at(%rip)
3:	ret
restorer:
	mov	$15, %eax		// rt_sigreturn
	syscall

.section .generated, "ax"
generated:
	.incbin "code"
	.zero CODE_BYTES - (. - generated)

.section .state, "aw"
saved_rsp:
	.quad	0
log:	.quad	log_start
	.quad	0
resume_at:
	.quad	0
	.zero	0x8000 - 0x20
runtime_stack:
	.zero	0x8000

.section .images, "a"
	.incbin "images"
.balign 64
action:	.quad	handler, 0x0c000004, restorer, 0	// SA_ONSTACK | SA_RESTORER | SA_SIGINFO
alternate:
	.quad	alternate_stack, 0x80000000, 0x10000	// SS_AUTODISARM: wherever the stack pointer happens to be.
skips:	.incbin "skips"
	.zero	CODE_BYTES - (. - skips)

.section .memory, "aw"
	.incbin "memory"

.bss
.balign 4096
alternate_stack:
	.zero	0x10000
.balign 64
log_start:
	.zero	LOG_BYTES
log_end:
