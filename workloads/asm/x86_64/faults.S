// Page faults: 512 fresh pages, each written once. A fault is an exception and no instruction, whatever
// a counter may say.
// expect instructions=2060
// expect faults=512
// By construction: 9 + 512 x 4 + 3 to leave.
        .globl  _start
_start:
        xor     %edi, %edi              // anywhere     1
        mov     $512*4096, %esi         //              2
        mov     $3, %edx                // read, write  3
        mov     $0x22, %r10d            // private, anonymous  4
        mov     $-1, %r8                //              5
        xor     %r9d, %r9d              //              6
        mov     $9, %eax                // mmap         7
        syscall                         //              8
        mov     $512, %ecx              //              9
1:      movb    $1, (%rax)              //              2048 in all
        add     $4096, %rax
        sub     $1, %ecx
        jne     1b
        mov     $60, %eax               // exit         10
        xor     %edi, %edi              //              11
        syscall                         //              12
