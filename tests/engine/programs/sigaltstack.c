// Ten stack overflows, each seen by a handler on the alternate stack and left by siglongjmp.
// prints: overflows 10
// build dynamic: gcc -O1
// build static: gcc -O1 -static
#include "check.h"
#include <setjmp.h>

static char alternate[65536];
static sigjmp_buf back;
static volatile int overflows;

static void overflow(int signal, siginfo_t *info, void *context)
{
	char here;
	stack_t now;
	CHECK(&here >= alternate && &here < alternate + sizeof(alternate));
	CHECK(sigaltstack(0, &now) == 0 && now.ss_flags == SS_ONSTACK);
	uintptr_t top = REGISTER(context, RSP);
	CHECK((uintptr_t)info->si_addr <= top + 65536 && (uintptr_t)info->si_addr + 65536 >= top);
	overflows++;
	siglongjmp(back, 1);
}

__attribute__((noinline)) static int recurse(int depth)
{
	volatile char frame[4096];
	frame[depth % 4096] = depth;
	return recurse(depth + 1) + frame[depth % 4096];
}

int main(void)
{
	stack_t stack = {.ss_sp = alternate, .ss_size = sizeof(alternate)};
	CHECK(sigaltstack(&stack, 0) == 0);
	on(SIGSEGV, overflow, SA_ONSTACK);
	for (volatile int i = 0; i < 10; i++)
		if (sigsetjmp(back, 1) == 0)
			recurse(i);
	printf("overflows %d\n", overflows);
}
