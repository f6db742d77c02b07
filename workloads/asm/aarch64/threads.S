// Two threads: the second runs 3000 turns while the first sleeps on the word that the kernel clears and
// wakes at the second's end (CLONE_CHILD_CLEARTID). One futex call whichever of them is faster: when the
// word is clear already, the call returns at once.
// expect instructions=6025
// expect threads=2
// By construction: the columns are the first thread and the second (6000 turns apart).
        .globl  _start
_start:
        adrp    x19, tid                //                      1
        add     x19, x19, :lo12:tid     //                      2
        movz    w0, #0x0f00             // flags, see below     3
        movk    w0, #0x35, lsl #16      //                      4
        add     x1, x19, #4096          // stack                5
        mov     x2, x19                 // parent_tid           6
        mov     x3, #0                  // tls                  7
        mov     x4, x19                 // child_tid            8
        mov     x8, #220                // clone                9
        svc     #0                      //                      10
        cbz     x0, second              //                      11  1
        mov     w2, w0                  // the value to sleep on 12
        mov     x0, x19                 //                      13
        mov     x1, #0                  // FUTEX_WAIT           14
        mov     x3, #0                  // for ever             15
        mov     x8, #98                 // futex                16
        svc     #0                      //                      17
        mov     x0, #0                  //                      18
        mov     x8, #94                 // exit_group           19
        svc     #0                      //                      20
second: mov     w9, #3000               //                          2
1:      subs    w9, w9, #1              //                          6000 in all
        b.ne    1b
        mov     x0, #0                  //                          3
        mov     x8, #93                 // exit                     4
        svc     #0                      //                          5

// CLONE_VM 0x100, FS 0x200, FILES 0x400, SIGHAND 0x800, THREAD 0x10000, SYSVSEM 0x40000,
// PARENT_SETTID 0x100000, CHILD_CLEARTID 0x200000: what pthread_create(3) passes, without a TLS.
        .bss
        .balign 16
tid:    .skip   4096
