// A division by zero: the handler sees its address in si_addr and RIP, and steps over it by writing RIP.
// prints: divisions 100
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

extern char divide[], divided[];
static volatile int divisions;

static void skip(int signal, siginfo_t *info, void *context)
{
	CHECK(signal == SIGFPE && info->si_code == FPE_INTDIV && info->si_addr == divide);
	CHECK(REGISTER(context, RIP) == (greg_t)divide);
	CHECK(REGISTER(context, RAX) == divisions && REGISTER(context, RCX) == 0);
	REGISTER(context, RIP) = (greg_t)divided;
	REGISTER(context, RAX) = 4711;
	divisions++;
}

int main(void)
{
	on(SIGFPE, skip, 0);
	for (int i = 0; i < 100; i++) {
		int value = i;
		asm volatile("xor %%edx, %%edx; xor %%ecx, %%ecx\n"
			     "divide: idivl %%ecx\n"
			     "divided: add $1, %%eax"
			     : "+a"(value) : : "rcx", "rdx", "cc", "memory");
		CHECK(value == 4712);
	}
	printf("divisions %d\n", divisions);
}
