// A signal handler: the process sends itself SIGUSR1 100 times; each delivery runs the handler and leaves
// it through the kernel's own rt_sigreturn trampoline: two instructions of the vDSO. Exits with 100.
// expect exit=100
// expect instructions=1315
// By construction: 11 to start, 100 x (6 + 5 in the handler + 2 to return), 4 to leave.
        .globl  _start
_start:
        mov     x0, #10                 // SIGUSR1              1
        adrp    x1, action              //                      2
        add     x1, x1, :lo12:action    //                      3
        mov     x2, #0                  //                      4
        mov     x3, #8                  // bytes of a signal set 5
        mov     x8, #134                // rt_sigaction         6
        svc     #0                      //                      7
        mov     x8, #172                // getpid               8
        svc     #0                      //                      9
        mov     x19, x0                 //                      10
        mov     w20, #100               //                      11
1:      mov     x0, x19                 //   1 of 6 a turn
        mov     x1, #10                 //   2 SIGUSR1
        mov     x8, #129                //   3 kill
        svc     #0                      //   4, and the handler's 5 + 2
        subs    w20, w20, #1            //   5
        b.ne    1b                      //   6
        adrp    x1, caught              //                      12
        ldr     w0, [x1, :lo12:caught]  //                      13
        mov     x8, #93                 // exit                 14
        svc     #0                      //                      15
handler:
        adrp    x1, caught
        ldr     w2, [x1, :lo12:caught]
        add     w2, w2, #1
        str     w2, [x1, :lo12:caught]
        ret

        .data
        .balign 8
action: .quad   handler
        .quad   0                       // no flags: arm64 returns through the vDSO
        .quad   0                       // no restorer
        .quad   0                       // nothing masked
        .bss
        .balign 4
caught: .skip   4
