// A child by vfork that executes this very file again, with one argument more; the second image runs 1000
// turns and exits with 5, and so does the parent. Start it by a path with a slash in it: `argv[0]`.
// expect exit=5
// expect instructions=2031
// expect processes=2
// By construction: the columns are the parent, the child before exec, the child after.
        .globl  _start
_start:
        cmpl    $1, (%rsp)              // argc                 1       1
        jne     second                  //                      2       2
        mov     $58, %eax               // vfork                3
        syscall                         //                      4
        test    %eax, %eax              //                      5   1
        je      child                   //                      6   2
        mov     %eax, %edi              //                      7
        lea     status(%rip), %rsi      //                      8
        xor     %edx, %edx              //                      9
        xor     %r10d, %r10d            //                      10
        mov     $61, %eax               // wait4                11
        syscall                         //                      12
        movzbl  status+1(%rip), %edi    // WEXITSTATUS          13
        mov     $60, %eax               // exit                 14
        syscall                         //                      15
child:  mov     8(%rsp), %rdi           // argv[0]                  3
        lea     args(%rip), %rsi        //                          4
        mov     %rdi, (%rsi)            //                          5
        lea     more(%rip), %rax        //                          6
        mov     %rax, 8(%rsi)           //                          7
        lea     24(%rsp), %rdx          // envp                     8
        mov     $59, %eax               // execve                   9
        syscall                         //                          10
        mov     $99, %edi               // not reached
        mov     $60, %eax
        syscall
second: mov     $1000, %ecx             //                              3
1:      sub     $1, %ecx                //                              2000 in all
        jne     1b
        mov     $5, %edi                //                              4
        mov     $60, %eax               // exit                         5
        syscall                         //                              6

        .data
more:   .asciz  "again"
        .bss
        .balign 8
status: .skip   8
args:   .skip   24
