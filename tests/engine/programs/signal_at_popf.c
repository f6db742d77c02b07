// A signal at a `popf`, or at data that looks like one: the trap flag of the tracer's step does not stay in the context.
// prints: no trap flag
// build static: gcc -O1 -static
// build dynamic: gcc -O1
#include "check.h"

static volatile int handled;

static void handle(int signal, siginfo_t *info, void *context)
{
	CHECK(signal == SIGSEGV && !(REGISTER(context, EFL) & 0x100));
	uint64_t *stack = (uint64_t *)REGISTER(context, RSP);
	REGISTER(context, RIP) = *stack;
	REGISTER(context, RSP) = (uint64_t)(stack + 1);
	handled++;
}

int main(void)
{
	on(SIGSEGV, handle, 0);
	unsigned char *data = pages(1, PROT_READ | PROT_WRITE);
	static const unsigned char codes[][2] = {{0x9d}, {0x48, 0x9d}, {0x66, 0x9d}, {0xcf}, {0x90}};
	for (int i = 0; i < 5; i++) {
		memcpy(data, codes[i], 2);
		((void (*)(void))data)();
		CHECK(handled == i + 1);
	}
	puts("no trap flag");
	return 0;
}
