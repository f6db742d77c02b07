// int3: RIP is behind it; the handler steps over the ud2 that follows.
// prints: traps 100
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

extern char behind[];
static volatile int traps;

static void skip(int signal, siginfo_t *info, void *context)
{
	CHECK(signal == SIGTRAP && info->si_code == SI_KERNEL);
	CHECK(REGISTER(context, RIP) == (greg_t)behind);
	REGISTER(context, RIP) += 2;
	traps++;
}

int main(void)
{
	on(SIGTRAP, skip, 0);
	for (int i = 0; i < 100; i++) {
		int value = i;
		asm volatile("add $2, %0; int3\nbehind: ud2\nadd $3, %0" : "+r"(value) : : "cc", "memory");
		CHECK(value == i + 5);
	}
	printf("traps %d\n", traps);
}
