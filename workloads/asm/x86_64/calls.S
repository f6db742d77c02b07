// Calls: the Fibonacci number of 20, by recursion; the program exits with its lowest 8 bits (109).
// expect exit=109
// expect instructions=186074
// expect opcodes.call=21891
// expect opcodes.ret=21891
// By construction: fib(20) takes 21891 calls, 10946 of them with an argument below 2. Such a call is
// 4 instructions, any other 13; 2 make the first call and 3 leave: 10946 x 4 + 10945 x 13 + 5.
        .globl  _start
_start:
        mov     $20, %edi
        call    fib
        mov     %eax, %edi
        mov     $60, %eax               // exit
        syscall

fib:    mov     %edi, %eax              // 1
        cmp     $2, %edi                // 2
        jb      done                    // 3
        push    %rbx                    // 4
        mov     %edi, %ebx              // 5
        lea     -1(%rbx), %edi          // 6
        call    fib                     // 7
        xchg    %eax, %ebx              // 8
        lea     -2(%rax), %edi          // 9
        call    fib                     // 10
        add     %ebx, %eax              // 11
        pop     %rbx                    // 12
done:   ret                             // 13
