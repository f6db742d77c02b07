// Branches taken and not taken, in a pattern, and one through a table.
// expect instructions=1000004
// expect opcodes.je=100000
// expect opcodes.jne=100000
// expect opcodes.jmp=100000
// By construction: 100000 turns of 10 on average, 1 + 3 around them. The four entries of the table run 3, 2,
// 1 and 0 additions, and `je` skips one instruction every second time.
#ifndef N
#define N 100000
#endif
        .globl  _start
_start:
        mov     $N, %ecx
again:  mov     %ecx, %eax              // 1
        and     $3, %eax                // 2
        lea     table(%rip), %rdx       // 3
        jmp     *(%rdx,%rax,8)          // 4
zero:   add     $1, %r8                 // 1.5 on average
one:    add     $1, %r9
two:    add     $1, %r10
three:  test    $1, %cl                 // 6.5
        je      even                    // 7.5
        add     $1, %r11                // 8 on average
even:   sub     $1, %ecx                // 9
        jne     again                   // 10
        mov     $60, %eax               // exit
        xor     %edi, %edi
        syscall

        .section .rodata
        .balign 8
table:  .quad   zero, one, two, three
