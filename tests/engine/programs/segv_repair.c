// 200 stores fault on protected pages in the middle of a block; the handler sees the right address, the original RIP and every
// register as the code set it, repairs the page and returns; the rest of the block runs as if nothing had been.
// prints: faults 200
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// build no-pie: gcc -O2 -no-pie
// build musl: musl-gcc -O2 -static
// exact
#include "check.h"

uint64_t poke(void *page, uint64_t value);
extern char poke_store[], poke_end[];
asm("	.text\n"
    "poke:	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "	mov $0x1111, %ebx; mov $0x2222, %ebp; mov $0x3333, %r12d; mov $0x4444, %r13d\n"
    "	mov $0x5555, %r14d; mov $0x6666, %r15d; mov $0x7777, %r8d; mov $0x8888, %r9d\n"
    "	mov $0x9999, %r10d; mov $0xaaaa, %r11d; mov $0xbbbb, %ecx; mov $0xcccc, %edx\n"
    "	mov $-1, %eax; add $1, %eax; mov $0xdddd, %eax\n" // Leaves CF, ZF, PF and AF set.
    "poke_store: mov %rsi, 8(%rdi)\n"
    "	adc $0, %rax; add %rbx, %rax; add %rbp, %rax; add %r12, %rax; add %r13, %rax\n"
    "	add %r14, %rax; add %r15, %rax; add %r8, %rax; add %r9, %rax; add %r10, %rax\n"
    "	add %r11, %rax; add %rcx, %rax; add %rdx, %rax; add 8(%rdi), %rax\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx; ret\n"
    "poke_end:\n");

static volatile int faults;
static unsigned char *page;

static void repair(int signal, siginfo_t *info, void *context)
{
	CHECK(info->si_addr == page + 8 && info->si_code == SEGV_ACCERR);
	CHECK(REGISTER(context, RIP) == (greg_t)poke_store);
	CHECK(REGISTER(context, RDI) == (greg_t)page && REGISTER(context, RSI) == faults);
	CHECK(REGISTER(context, RAX) == 0xdddd && REGISTER(context, RBX) == 0x1111);
	CHECK(REGISTER(context, RCX) == 0xbbbb && REGISTER(context, RDX) == 0xcccc);
	CHECK(REGISTER(context, RBP) == 0x2222 && REGISTER(context, R8) == 0x7777);
	CHECK(REGISTER(context, R9) == 0x8888 && REGISTER(context, R10) == 0x9999);
	CHECK(REGISTER(context, R11) == 0xaaaa && REGISTER(context, R12) == 0x3333);
	CHECK(REGISTER(context, R13) == 0x4444 && REGISTER(context, R14) == 0x5555);
	CHECK(REGISTER(context, R15) == 0x6666);
	CHECK((REGISTER(context, EFL) & 0x8d5) == 0x55); // CF, PF, AF, ZF; neither SF nor OF.
	CHECK(REGISTER(context, CR2) == (greg_t)page + 8);
	faults++;
	CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
}

int main(void)
{
	unsigned char *all = pages(200, PROT_READ);
	uint64_t sum = 0xdddd + 1 + 0x1111 + 0x2222 + 0x3333 + 0x4444 + 0x5555 + 0x6666 + 0x7777 +
		       0x8888 + 0x9999 + 0xaaaa + 0xbbbb + 0xcccc;
	on(SIGSEGV, repair, 0);
	for (int i = 0; i < 200; i++) {
		page = all + i * 4096;
		CHECK(poke(page, i) == sum + i);
	}
	printf("faults %d\n", faults);
}
