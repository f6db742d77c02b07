// The program sets its own trap flag and is stepped over ten of them. An engine that cannot do it refuses this by name.
// prints: steps 10
// refused by dbi: steps itself (the trap flag)
// build dynamic: gcc -O2
#include "check.h"

static volatile int steps;

static void step(int signal, siginfo_t *info, void *context)
{
	steps++;
}

int main(void)
{
	on(SIGTRAP, step, 0);
	asm volatile("lea -128(%%rsp), %%rsp; pushf; orq $0x100, (%%rsp); popf\n"
		     "nop; nop; nop; nop; nop; nop; nop\n"
		     "pushf; andq $~0x100, (%%rsp); popf; lea 128(%%rsp), %%rsp" : : : "memory", "cc");
	printf("steps %d\n", steps);
}
