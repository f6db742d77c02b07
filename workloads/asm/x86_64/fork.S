// Two processes: the parent forks, waits, and runs 1000 turns; the child runs 2000. Exits with 7, the
// child's code.
// expect exit=7
// expect instructions=6020
// expect processes=2
// By construction: 14 + 2000 in the parent, 6 + 4000 in the child (the columns on the right).
        .globl  _start
_start:
        mov     $57, %eax               // fork                 1
        syscall                         //                      2
        test    %eax, %eax              // both                 3   1
        je      child                   //                      4   2
        mov     %eax, %edi              //                      5
        lea     status(%rip), %rsi      //                      6
        xor     %edx, %edx              //                      7
        xor     %r10d, %r10d            //                      8
        mov     $61, %eax               // wait4                9
        syscall                         //                      10
        mov     $1000, %ecx             //                      11
1:      sub     $1, %ecx                //                      2000 in all
        jne     1b
        movzbl  status+1(%rip), %edi    // WEXITSTATUS          12
        mov     $60, %eax               // exit                 13
        syscall                         //                      14
child:  mov     $2000, %ecx             //                          3
1:      sub     $1, %ecx                //                          4000 in all
        jne     1b
        mov     $7, %edi                //                          4
        mov     $60, %eax               // exit                     5
        syscall                         //                          6

        .bss
status: .skip   8
