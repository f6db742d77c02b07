// A loop inside a loop: 500 times 1000 turns. `-DN=...` sets the 500.
// expect instructions=1001504
// By construction: N x (1 + 1000 x 2 + 2) + 1 + 3 to leave.
#ifndef N
#define N 500
#endif
        .globl  _start
_start:
        mov     w8, #N
outer:  mov     w9, #1000
inner:  subs    w9, w9, #1
        b.ne    inner
        subs    w8, w8, #1
        b.ne    outer
        mov     x0, #0
        mov     x8, #93                 // exit
        svc     #0
