/* Marks stretches of a program, so that counterfoil counts them apart. C99 or C++11, gcc or clang, no libc needed.
 *
 *     COUNTERFOIL_REGION_BEGIN("parse");
 *     parse(input);
 *     COUNTERFOIL_REGION_END("parse");
 *
 * Names are string literals. Regions may nest, overlap and be entered any number of times, by any thread; a region
 * counts what all threads of the process do meanwhile. Without counterfoil a marker costs a few dozen instructions
 * at most and does nothing. On machines other than x86-64 and arm64 it is nothing at all.
 *
 * How: a marker is a client request of callgrind (valgrind/callgrind.h), which callgrind and counterfoil's own
 * backends see in the instruction stream. Where the environment has COUNTERFOIL_CONTROL=WRITE,READ, two file
 * descriptors, "begin:NAME\n" or "end:NAME\n" is also written to the first and one byte read from the second: this
 * is how hardware counters are switched.
 *
 * A program without libc, which has no `environ`, calls counterfoil_use_environment(envp) before its first region if
 * hardware counters shall know its regions.
 */
#ifndef COUNTERFOIL_H
#define COUNTERFOIL_H

#if defined(__linux__) && (defined(__x86_64__) && !defined(__ILP32__) || defined(__aarch64__))

#ifdef __cplusplus
extern "C" {
#endif

/* A client request as Valgrind reads it: six words. */
struct counterfoil_request {
    unsigned long code;
    const char *label;
    unsigned long unused[4];
};

/* One for the whole program, shared by all that is linked into it. */
struct counterfoil_state {
    int depth;   /* regions that are open now */
    int control; /* 0: not looked for yet; 1: there is none; 2: there is one */
    int to;      /* where to write */
    int from;    /* where to read */
};

__attribute__((weak, visibility("default"))) struct counterfoil_state counterfoil_state_v1 = {0, 0, 0, 0};

/* callgrind.h: 'C' << 24 | 'T' << 16, and the number of the request. */
#define COUNTERFOIL_DUMP_AT_ 0x43540003UL
#define COUNTERFOIL_START_ 0x43540004UL
#define COUNTERFOIL_STOP_ 0x43540005UL

/* Loads the request's address, ends the basic block with a jump to the next instruction, and makes the request
 * (valgrind.h): counterfoil knows these very bytes and counts none of them. */
#if defined(__x86_64__)
#define COUNTERFOIL_REQUEST_(request)                                                       \
    __asm__ volatile("{leaq %0, %%rax|lea rax, %0}\n\t"                                     \
                     ".byte 0xeb, 0x00\n\t"             /* jmp .+2 */                       \
                     ".byte 0x48, 0xc1, 0xc7, 0x03\n\t" /* rol $3, %rdi */                  \
                     ".byte 0x48, 0xc1, 0xc7, 0x0d\n\t" /* rol $13, %rdi */                 \
                     ".byte 0x48, 0xc1, 0xc7, 0x3d\n\t" /* rol $61, %rdi */                 \
                     ".byte 0x48, 0xc1, 0xc7, 0x33\n\t" /* rol $51, %rdi */                 \
                     ".byte 0x48, 0x87, 0xdb"           /* xchg %rbx, %rbx */               \
                     :                                                                      \
                     : "m"(request)                                                         \
                     : "rax", "rdx", "cc", "memory")
#else
#define COUNTERFOIL_REQUEST_(request)                                                       \
    __asm__ volatile("adrp x4, %0\n\t"                                                      \
                     "add x4, x4, :lo12:%0\n\t"                                             \
                     ".inst 0x14000001\n\t" /* b .+4 */                                     \
                     ".inst 0x93cc0d8c\n\t" /* ror x12, x12, #3 */                          \
                     ".inst 0x93cc358c\n\t" /* ror x12, x12, #13 */                         \
                     ".inst 0x93cccd8c\n\t" /* ror x12, x12, #51 */                         \
                     ".inst 0x93ccf58c\n\t" /* ror x12, x12, #61 */                         \
                     ".inst 0xaa0a014a"     /* orr x10, x10, x10 */                         \
                     :                                                                      \
                     : "S"(&request)                                                        \
                     : "x3", "x4", "cc", "memory")
#endif

/* read(2) and write(2) without libc: the result, or an errno below zero. */
static inline long counterfoil_call_(int write, int file, const void *bytes, unsigned long length) {
#if defined(__x86_64__)
    long result = write;
    __asm__ volatile("syscall"
                     : "+a"(result)
                     : "D"((long)file), "S"(bytes), "d"(length)
                     : "rcx", "r11", "cc", "memory");
    return result;
#else
    register long number __asm__("x8") = write ? 64 : 63;
    register long result __asm__("x0") = file;
    register const void *at __asm__("x1") = bytes;
    register unsigned long size __asm__("x2") = length;
    __asm__ volatile("svc #0" : "+r"(result) : "r"(number), "r"(at), "r"(size) : "cc", "memory");
    return result;
#endif
}

/* Reads a number and steps over it; -1 when there is none. */
static inline int counterfoil_number_(const char **text) {
    int number = -1;
    for (; **text >= '0' && **text <= '9' && number < 100000000; ++*text) {
        number = (number < 0 ? 0 : number * 10) + (**text - '0');
    }
    return number;
}

/* Looks for COUNTERFOIL_CONTROL among NAME=value strings. */
__attribute__((noinline, unused)) static void counterfoil_use_environment(char **environment) {
    static const char name[] = "COUNTERFOIL_CONTROL=";
    int control = 1;
    for (; environment && *environment; ++environment) {
        const char *text = *environment;
        unsigned long at = 0;
        while (name[at] && text[at] == name[at]) {
            ++at;
        }
        if (!name[at]) {
            text += at;
            counterfoil_state_v1.to = counterfoil_number_(&text);
            text += *text == ',';
            counterfoil_state_v1.from = counterfoil_number_(&text);
            control = counterfoil_state_v1.to >= 0 && counterfoil_state_v1.from >= 0 ? 2 : 1;
            break;
        }
    }
    __atomic_store_n(&counterfoil_state_v1.control, control, __ATOMIC_RELEASE);
}

extern char **counterfoil_environ_ __asm__("environ") __attribute__((weak));

/* Tells the holder of the control pipe and waits for its answer. A pipe that fails is not used again. */
__attribute__((noinline, unused)) static void counterfoil_tell_(const char *message, unsigned long length) {
    char answer;
    long result;
    if (__atomic_load_n(&counterfoil_state_v1.control, __ATOMIC_ACQUIRE) == 0) {
        counterfoil_use_environment(&counterfoil_environ_ ? counterfoil_environ_ : (char **)0);
    }
    if (__atomic_load_n(&counterfoil_state_v1.control, __ATOMIC_ACQUIRE) != 2) {
        return;
    }
    do {
        result = counterfoil_call_(1, counterfoil_state_v1.to, message, length);
    } while (result == -4 /* EINTR */);
    if (result == (long)length) {
        do {
            result = counterfoil_call_(0, counterfoil_state_v1.from, &answer, 1);
        } while (result == -4);
    }
    if (result != 1) {
        __atomic_store_n(&counterfoil_state_v1.control, 1, __ATOMIC_RELEASE);
    }
}

static inline void counterfoil_begin_(const char *message, unsigned long length) {
    static const struct counterfoil_request start = {COUNTERFOIL_START_, 0, {0, 0, 0, 0}};
    if (__atomic_fetch_add(&counterfoil_state_v1.depth, 1, __ATOMIC_RELAXED) == 0) {
        COUNTERFOIL_REQUEST_(start);
    }
    if (__atomic_load_n(&counterfoil_state_v1.control, __ATOMIC_RELAXED) != 1) {
        counterfoil_tell_(message, length);
    }
}

static inline void counterfoil_end_(const char *message, unsigned long length) {
    static const struct counterfoil_request stop = {COUNTERFOIL_STOP_, 0, {0, 0, 0, 0}};
    if (__atomic_load_n(&counterfoil_state_v1.control, __ATOMIC_RELAXED) != 1) {
        counterfoil_tell_(message, length);
    }
    if (__atomic_load_n(&counterfoil_state_v1.depth, __ATOMIC_RELAXED) > 0 &&
        __atomic_sub_fetch(&counterfoil_state_v1.depth, 1, __ATOMIC_RELAXED) == 0) {
        COUNTERFOIL_REQUEST_(stop);
    }
}

/* The request is the last of a begin and the first of an end: nothing of the marker is in the region. */
#define COUNTERFOIL_REGION_BEGIN(name)                                                      \
    do {                                                                                    \
        static const struct counterfoil_request counterfoil_here_ = {                       \
            COUNTERFOIL_DUMP_AT_, "counterfoil:begin:" name, {0, 0, 0, 0}};                 \
        counterfoil_begin_("begin:" name "\n", sizeof("begin:" name "\n") - 1);             \
        COUNTERFOIL_REQUEST_(counterfoil_here_);                                            \
    } while (0)

#define COUNTERFOIL_REGION_END(name)                                                        \
    do {                                                                                    \
        static const struct counterfoil_request counterfoil_here_ = {                       \
            COUNTERFOIL_DUMP_AT_, "counterfoil:end:" name, {0, 0, 0, 0}};                   \
        COUNTERFOIL_REQUEST_(counterfoil_here_);                                            \
        counterfoil_end_("end:" name "\n", sizeof("end:" name "\n") - 1);                   \
    } while (0)

#ifdef __cplusplus
}
#endif

#else

#define COUNTERFOIL_REGION_BEGIN(name) ((void)0)
#define COUNTERFOIL_REGION_END(name) ((void)0)
static inline void counterfoil_use_environment(char **environment) { (void)environment; }

#endif
#endif
