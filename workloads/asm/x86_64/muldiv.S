// Integer multiplication and division, no SIMD.
// expect instructions=800004
// expect opcodes.imul=100000
// expect opcodes.mul=100000
// expect opcodes.div=100000
// By construction: 100000 x 8 + 1 + 3 to leave.
#ifndef N
#define N 100000
#endif
        .globl  _start
_start:
        mov     $N, %ecx
again:  imul    $7, %rcx, %rbx
        mov     %rcx, %rax
        mul     %rbx
        xor     %edx, %edx
        div     %rcx
        add     %rax, %r8
        sub     $1, %ecx
        jne     again
        mov     $60, %eax               // exit
        xor     %edi, %edi
        syscall
