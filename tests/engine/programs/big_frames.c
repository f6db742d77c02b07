// Frames of up to a megabyte, touched from the far end, and red zones of leaf functions under a storm of faults.
// prints: frames 60 leaves 2000
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"
#include <alloca.h>

__attribute__((noinline)) static int deep(int level)
{
	size_t size = 16384 << level;
	volatile char *frame = alloca(size);
	frame[0] = level;
	frame[size - 1] = 1;
	return level == 6 ? frame[0] + 1 : deep(level + 1) + frame[size - 1];
}

// Keeps everything below the stack pointer.
uint64_t leaf(uint64_t value, volatile char *page);
asm("leaf:	mov %rdi, -8(%rsp); mov %rdi, -64(%rsp); mov %rdi, -128(%rsp)\n"
    "	xor %eax, %eax; cmp %edi, %edi; jne 1f; jmp 1f\n"
    "1:	add -8(%rsp), %rax; lea 2f(%rip), %rcx; jmp *%rcx\n"
    "2:	add -64(%rsp), %rax; mov (%rsi), %cl; add -128(%rsp), %rax; ret\n");

static volatile int faults;
static unsigned char *page;

static void repair(int signal, siginfo_t *info, void *context)
{
	faults++;
	CHECK(mprotect(page, 4096, PROT_READ) == 0);
}

int main(void)
{
	int frames = 0, leaves = 0;
	for (int i = 0; i < 10; i++)
		frames += deep(0) - 7;
	page = pages(1, PROT_READ);
	on(SIGSEGV, repair, 0);
	for (uint64_t i = 0; i < 2000; i++) {
		if (i % 20 == 0)
			mprotect(page, 4096, PROT_NONE);
		leaves += leaf(i, (char *)page) == 3 * i;
	}
	CHECK(faults == 100);
	printf("frames %d leaves %d\n", frames, leaves);
}
