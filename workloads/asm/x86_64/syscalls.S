// System calls: getpid, 1000 times.
// expect instructions=4004
// expect opcodes.syscall=1001
// By construction: 1000 x 4 + 1 + 3 to leave.
        .globl  _start
_start:
        mov     $1000, %ebx
again:  mov     $39, %eax               // getpid
        syscall
        sub     $1, %ebx
        jne     again
        mov     $60, %eax               // exit
        xor     %edi, %edi
        syscall
