// Straight line: four opcodes in turn, no branch.
// expect instructions=40003
// expect opcodes.add=10000
// expect opcodes.lea=10000
// expect opcodes.mov=10001
// expect opcodes.xor=10001
// expect opcodes.syscall=1
// By construction: 4 x 10000 + 3 to leave.
        .globl  _start
_start:
        .rept   10000
        add     $3, %rax
        lea     7(%rax), %rbx
        mov     %rbx, %rcx
        xor     %rcx, %rdx
        .endr
        mov     $60, %eax               // exit
        xor     %edi, %edi
        syscall
