// A signal handler: the process sends itself SIGUSR1 100 times; each delivery runs the handler and leaves
// it through rt_sigreturn. Exits with 100, counted by the handler.
// expect exit=100
// expect instructions=1013
// By construction: 10 to start, 100 x (6 + 2 in the handler + 2 to return), 3 to leave.
        .globl  _start
_start:
        mov     $10, %edi               // SIGUSR1      1
        lea     action(%rip), %rsi      //              2
        xor     %edx, %edx              //              3
        mov     $8, %r10d               // bytes of a signal set  4
        mov     $13, %eax               // rt_sigaction 5
        syscall                         //              6
        mov     $39, %eax               // getpid       7
        syscall                         //              8
        mov     %eax, %ebx              //              9
        mov     $100, %r12d             //              10
1:      mov     %ebx, %edi              //   1 of 6 a turn
        mov     $10, %esi               //   2 SIGUSR1
        mov     $62, %eax               //   3 kill
        syscall                         //   4, and the handler's 2 + 2
        sub     $1, %r12d               //   5
        jne     1b                      //   6
        mov     caught(%rip), %edi      //              11
        mov     $60, %eax               // exit         12
        syscall                         //              13
handler:
        addl    $1, caught(%rip)
        ret
restorer:
        mov     $15, %eax               // rt_sigreturn
        syscall

        .data
        .balign 8
action: .quad   handler
        .quad   0x4000000               // SA_RESTORER
        .quad   restorer
        .quad   0                       // nothing masked
        .bss
caught: .skip   4
