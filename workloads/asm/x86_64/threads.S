// Two threads: the second runs 3000 turns while the first sleeps on the word that the kernel clears and
// wakes at the second's end (CLONE_CHILD_CLEARTID). One futex call whichever of them is faster: when the
// word is clear already, the call returns at once.
// expect instructions=6024
// expect threads=2
// By construction: the columns are the first thread and the second.
        .globl  _start
_start:
        lea     tid(%rip), %rdx         // parent_tid           1
        mov     %rdx, %r10              // child_tid            2
        xor     %r8d, %r8d              // tls                  3
        lea     top(%rip), %rsi         // stack                4
        mov     $0x350f00, %edi         // flags, see below     5
        mov     $56, %eax               // clone                6
        syscall                         //                      7
        test    %eax, %eax              //                      8   1
        je      second                  //                      9   2
        mov     %eax, %edx              // the value to sleep on 10
        lea     tid(%rip), %rdi         //                      11
        xor     %esi, %esi              // FUTEX_WAIT           12
        xor     %r10d, %r10d            // for ever             13
        mov     $202, %eax              // futex                14
        syscall                         //                      15
        mov     $231, %eax              // exit_group           16
        xor     %edi, %edi              //                      17
        syscall                         //                      18
second: mov     $3000, %ecx             //                          3
1:      sub     $1, %ecx                //                          6000 in all
        jne     1b
        mov     $60, %eax               // exit                     4
        xor     %edi, %edi              //                          5
        syscall                         //                          6

// CLONE_VM 0x100, FS 0x200, FILES 0x400, SIGHAND 0x800, THREAD 0x10000, SYSVSEM 0x40000,
// PARENT_SETTID 0x100000, CHILD_CLEARTID 0x200000: what pthread_create(3) passes, without a TLS.
        .bss
        .balign 16
tid:    .skip   16
        .skip   4096
top:
