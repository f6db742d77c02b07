// Calls and jumps to where no code can be: unmapped, not executable (data, stack), non-canonical. The handler sees the target
// in si_addr and RIP and the return address on the stack, and returns from the call that never arrived.
// prints: unmapped 100 data 100 stack 100 wild 100
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

static void *target;
static volatile int faults;
static int wild;
extern char after_call[];

static void go_back(int signal, siginfo_t *info, void *context)
{
	uint64_t *top = (uint64_t *)REGISTER(context, RSP);
	CHECK(signal == SIGSEGV);
	if (wild) { // The call itself faults.
		CHECK(info->si_addr == 0 && info->si_code == SI_KERNEL);
		if (REGISTER(context, RIP) == (greg_t)target)
			top++; // Some processors fault at the target.
	} else {
		CHECK(info->si_addr == target && REGISTER(context, RIP) == (greg_t)target);
		CHECK(info->si_code == SEGV_MAPERR || info->si_code == SEGV_ACCERR);
		CHECK(*top == (uint64_t)after_call);
		top++;
	}
	faults++;
	REGISTER(context, RSP) = (greg_t)top;
	REGISTER(context, RIP) = (greg_t)after_call;
}

__attribute__((noinline, noclone)) static void go(void *where)
{
	target = where;
	asm volatile("lea -128(%%rsp), %%rsp; call *%0\nafter_call: lea 128(%%rsp), %%rsp" : : "b"(where) : "memory", "cc");
}

static unsigned char data[] = {0xc3, 0xc3, 0xc3, 0xc3};

int main(void)
{
	unsigned char stack[] = {0xc3, 0xc3};
	unsigned char *gone = pages(1, PROT_NONE);
	munmap(gone, 4096);
	on(SIGSEGV, go_back, 0);
	for (int i = 0; i < 100; i++) {
		go(gone + i);
		go(data + i % 4);
		go(stack + i % 2);
	}
	CHECK(faults == 300);
	wild = 1;
	for (int i = 0; i < 100; i++)
		go((void *)(0x123400000000cdef + i));
	printf("unmapped 100 data 100 stack 100 wild %d\n", faults - 300);
}
