// Page faults: 512 fresh pages of 4096 bytes, each written once. A fault is an exception and no
// instruction, whatever a counter may say.
// expect instructions=2060
// By construction: 9 + 512 x 4 + 3 to leave.
        .globl  _start
_start:
        mov     x0, #0                  // anywhere             1
        mov     x1, #512*4096           //                      2
        mov     x2, #3                  // read, write          3
        mov     x3, #0x22               // private, anonymous   4
        mov     x4, #-1                 //                      5
        mov     x5, #0                  //                      6
        mov     x8, #222                // mmap                 7
        svc     #0                      //                      8
        mov     w9, #512                //                      9
1:      strb    w9, [x0]                //                      2048 in all
        add     x0, x0, #4096
        subs    w9, w9, #1
        b.ne    1b
        mov     x0, #0
        mov     x8, #93                 // exit
        svc     #0
