// `rep` with a count of 4096, 1000, 0 and 100: one retired instruction each. Valgrind counts a turn of the
// repetition as an instruction, and the look at the counter that ends it as one more.
// expect instructions=17
// expect cachegrind.instructions=5213
// expect callgrind.instructions=5213
// expect opcodes.movsb=2
// expect opcodes.stosb=1
// expect opcodes.scasb=1
// By construction: 4 of 17 repeat; Valgrind counts (4096 + 1) + (1000 + 1) + (0 + 1) + (100 + 1) for them.
        .globl  _start
_start:
        lea     from(%rip), %rsi
        lea     to(%rip), %rdi
        mov     $4096, %ecx
        rep movsb
        lea     to(%rip), %rdi
        mov     $1000, %ecx
        mov     $7, %eax
        rep stosb
        xor     %ecx, %ecx
        rep movsb
        lea     to(%rip), %rdi
        mov     $100, %ecx
        xor     %eax, %eax
        repne scasb                     // 100 bytes of 7, no 0: all turns
        mov     $60, %eax               // exit
        xor     %edi, %edi
        syscall

        .bss
from:   .skip   4096
to:     .skip   4096
