// A loop inside a loop: N times 1000 turns. `-DN=...` sets N; the counts below are for 500.
// expect instructions=1001504
// expect opcodes.sub=500500
// expect opcodes.jne=500500
// By construction: N x (1 + 1000 x 2 + 2) + 1 + 3 to leave.
#ifndef N
#define N 500
#endif
        .globl  _start
_start:
        mov     $N, %r8d
outer:  mov     $1000, %ecx
inner:  sub     $1, %ecx
        jne     inner
        sub     $1, %r8d
        jne     outer
        mov     $60, %eax               // exit
        xor     %edi, %edi
        syscall
