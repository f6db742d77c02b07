// The program that stands in for another: looks its arguments up in the table behind it, notes the call in a
// file, and does what the table says. No C library, no writable memory but the stack. Linux on x86-64.
//
// The table, in 32-bit words, offsets from its beginning:
//   path of the file of calls | number of answers | operations when no answer fits
//   for each answer: bytes of its arguments (-1: any) | where they are | its operations
// An operation is four words: kind | a | offset | length.
//   0 exit with a       1 write to descriptor a (-1: the open file)     2 make the folder
//   3 open the file with mode a     4 close it     5 write the arguments to descriptor a
// A note is four words: answer (-1: none; -2: an operation failed) | argc | bytes of the arguments | errno,
// and the arguments, each with its NUL byte, the zeroth left out.
//
//   rbx the table   r12 argc   r13 argv   r14 the arguments   rbp their bytes   r15d the open file
//   r9d the answer  r10 the operation     r8d errno     [rsp + 48] the file of calls

        .balign 16
        .globl  counterfoil_answer_begin
        .hidden counterfoil_answer_begin
counterfoil_answer_begin:
        mov     r12, [rsp]
        lea     r13, [rsp + 8]
        sub     rsp, 64
        lea     rbx, [rip + counterfoil_answer_end]

        // The kernel puts the arguments one behind the other (execve(2), `create_elf_tables`).
        xor     ebp, ebp
        xor     r14d, r14d
        cmp     r12, 2
        jb      2f
        mov     r14, [r13 + 8]
        mov     rdi, [r13 + r12*8 - 8]
        xor     eax, eax
        mov     rcx, -1
        repne scasb
        mov     rbp, rdi
        sub     rbp, r14

2:      // The first answer whose arguments are these.
        mov     edx, [rbx + 4]
        lea     r8, [rbx + 12]
        xor     r9d, r9d
3:      cmp     r9d, edx
        je      5f
        mov     ecx, [r8]
        cmp     ecx, -1
        je      6f
        cmp     rcx, rbp
        jne     4f
        mov     esi, [r8 + 4]
        lea     rsi, [rbx + rsi]
        mov     rdi, r14
        repe cmpsb
        je      6f
4:      add     r8, 12
        inc     r9d
        jmp     3b
5:      mov     r9d, -1
        mov     r10d, [rbx + 8]
        jmp     7f
6:      mov     r10d, [r8 + 8]
7:      add     r10, rbx

        // Note the call: open(path, O_WRONLY | O_APPEND | O_CLOEXEC).
        mov     eax, 2
        mov     edi, [rbx]
        add     rdi, rbx
        mov     esi, 0x80401
        xor     edx, edx
        syscall
        test    eax, eax
        js      90f
        mov     [rsp + 48], eax
        xor     r8d, r8d
        call    80f

15:     // The next operation.
        mov     eax, [r10]
        mov     edi, [r10 + 4]
        mov     esi, [r10 + 8]
        add     rsi, rbx
        mov     edx, [r10 + 12]
        add     r10, 16
        cmp     eax, 1
        jb      20f
        je      21f
        cmp     eax, 3
        jb      22f
        je      23f
        cmp     eax, 5
        jb      24f
        jmp     25f

20:     mov     eax, 231                // exit_group
        syscall

21:     cmp     edi, -1
        cmove   edi, r15d
        call    70f
        jmp     15b

22:     mov     eax, 83                 // mkdir; whether it is there is seen when the file is opened
        mov     rdi, rsi
        mov     esi, 0x1ff
        syscall
        jmp     15b

23:     mov     eax, 2                  // open: O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC
        mov     edx, edi
        mov     rdi, rsi
        mov     esi, 0x80241
        syscall
        test    eax, eax
        js      60f
        mov     r15d, eax
        jmp     15b

24:     mov     eax, 3                  // close
        mov     edi, r15d
        syscall
        test    eax, eax
        js      60f
        jmp     15b

25:     // Each argument with a blank before it; r15 counts.
        mov     r15d, 1
26:     cmp     r15, r12
        jae     15b
        lea     rsi, [rip + 99f]
        mov     edx, 1
        call    70f
        mov     rsi, [r13 + r15*8]
        mov     edx, edi
        mov     rdi, rsi
        xor     eax, eax
        mov     rcx, -1
        repne scasb
        sub     rdi, rsi
        xchg    rdx, rdi
        dec     edx
        call    70f
        inc     r15
        jmp     26b

60:     // An operation failed; eax is -errno. Note that, too, and end.
        neg     eax
        mov     r8d, eax
        mov     r9d, -2
        call    80f
        jmp     90f

70:     // Write edx bytes at rsi to edi, all of them.
        test    edx, edx
        je      71f
        mov     eax, 1
        syscall
        cmp     rax, -4                 // EINTR
        je      70b
        test    rax, rax
        js      72f
        add     rsi, rax
        sub     edx, eax
        jmp     70b
71:     ret
72:     pop     rcx                     // back in the frame of the operations
        jmp     60b

80:     // Append a note to the file of calls, in one call: header and arguments. Above it is our return address.
        mov     [rsp + 8], r9d
        mov     [rsp + 12], r12d
        mov     [rsp + 16], ebp
        mov     [rsp + 20], r8d
        lea     rax, [rsp + 8]
        mov     [rsp + 24], rax
        mov     qword ptr [rsp + 32], 16
        mov     [rsp + 40], r14
        mov     [rsp + 48], rbp
        mov     eax, 20                 // writev
        mov     edi, [rsp + 56]
        lea     rsi, [rsp + 24]
        mov     edx, 2
        syscall
        lea     rcx, [rbp + 16]
        cmp     rax, rcx
        jne     90f
        ret

90:     // What cannot be noted must not pass for an answer. The exit code is `UNANSWERED`.
        mov     eax, 231
        mov     edi, 96
        syscall

99:     .ascii  " "
        .balign 8
        .globl  counterfoil_answer_end
        .hidden counterfoil_answer_end
counterfoil_answer_end:
