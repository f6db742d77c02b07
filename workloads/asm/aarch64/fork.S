// Two processes: the parent forks, waits, and runs 1000 turns; the child runs 2000. Exits with 7, the
// child's code.
// expect exit=7
// expect instructions=6024
// expect processes=2
// By construction: 19 + 2000 in the parent, 5 + 4000 in the child (the columns on the right).
        .globl  _start
_start:
        mov     x0, #17                 // SIGCHLD              1
        mov     x1, #0                  //                      2
        mov     x2, #0                  //                      3
        mov     x3, #0                  //                      4
        mov     x4, #0                  //                      5
        mov     x8, #220                // clone                6
        svc     #0                      //                      7
        cbz     x0, child               //                      8   1
        adrp    x19, status             //                      9
        add     x19, x19, :lo12:status  //                      10
        mov     x1, x19                 //                      11
        mov     x2, #0                  //                      12
        mov     x3, #0                  //                      13
        mov     x8, #260                // wait4                14
        svc     #0                      //                      15
        mov     w9, #1000               //                      16
1:      subs    w9, w9, #1              //                      2000 in all
        b.ne    1b
        ldrb    w0, [x19, #1]           // WEXITSTATUS          17
        mov     x8, #93                 // exit                 18
        svc     #0                      //                      19
child:  mov     w9, #2000               //                          2
1:      subs    w9, w9, #1              //                          4000 in all
        b.ne    1b
        mov     x0, #7                  //                          3
        mov     x8, #93                 // exit                     4
        svc     #0                      //                          5

        .bss
        .balign 8
status: .skip   8
