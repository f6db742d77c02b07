// ud2: the handler sees its address in si_addr and RIP, and steps over its two bytes.
// prints: skipped 100
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

extern char undefined[];
static volatile int skipped;

static void skip(int signal, siginfo_t *info, void *context)
{
	CHECK(signal == SIGILL && info->si_code == ILL_ILLOPN && info->si_addr == undefined);
	CHECK(REGISTER(context, RIP) == (greg_t)undefined);
	REGISTER(context, RIP) += 2;
	skipped++;
}

int main(void)
{
	on(SIGILL, skip, 0);
	for (int i = 0; i < 100; i++) {
		int value = i;
		asm volatile("add $2, %0\nundefined: ud2\nadd $3, %0" : "+r"(value) : : "cc", "memory");
		CHECK(value == i + 5);
	}
	printf("skipped %d\n", skipped);
}
