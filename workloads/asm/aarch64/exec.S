// A child that executes this very file again, with one argument more; the second image runs 1000 turns and
// exits with 5, and so does the parent. Start it by a path with a slash in it: `argv[0]`.
// expect exit=5
// expect instructions=2038
// expect processes=2
// By construction: the columns are the parent, the child before exec, the child after (2000 turns apart).
        .globl  _start
_start:
        ldr     x0, [sp]                // argc                 1       1
        cmp     x0, #1                  //                      2       2
        b.ne    second                  //                      3       3
        mov     x0, #17                 // SIGCHLD              4
        mov     x1, #0                  //                      5
        mov     x2, #0                  //                      6
        mov     x3, #0                  //                      7
        mov     x4, #0                  //                      8
        mov     x8, #220                // clone                9
        svc     #0                      //                      10
        cbz     x0, child               //                      11  1
        adrp    x19, status             //                      12
        add     x19, x19, :lo12:status  //                      13
        mov     x1, x19                 //                      14
        mov     x2, #0                  //                      15
        mov     x3, #0                  //                      16
        mov     x8, #260                // wait4                17
        svc     #0                      //                      18
        ldrb    w0, [x19, #1]           // WEXITSTATUS          19
        mov     x8, #93                 // exit                 20
        svc     #0                      //                      21
child:  ldr     x0, [sp, #8]            // argv[0]                  2
        adrp    x1, args                //                          3
        add     x1, x1, :lo12:args      //                          4
        adrp    x3, more                //                          5
        add     x3, x3, :lo12:more      //                          6
        stp     x0, x3, [x1]            //                          7
        add     x2, sp, #24             // envp                     8
        mov     x8, #221                // execve                   9
        svc     #0                      //                          10
        mov     x0, #99                 // not reached
        mov     x8, #93
        svc     #0
second: mov     w9, #1000               //                              4
1:      subs    w9, w9, #1              //                              2000 in all
        b.ne    1b
        mov     x0, #5                  //                              5
        mov     x8, #93                 // exit                         6
        svc     #0                      //                              7

        .data
more:   .asciz  "again"
        .bss
        .balign 8
status: .skip   8
args:   .skip   24
