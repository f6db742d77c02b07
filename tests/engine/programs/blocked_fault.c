// A fault while SIGSEGV is blocked kills, handler or not; one sent by kill stays pending.
// prints: pending
// exits: 139
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

static void never(int signal, siginfo_t *info, void *context)
{
	_exit(1);
}

int main(void)
{
	sigset_t segv, pending;
	on(SIGSEGV, never, 0);
	sigemptyset(&segv);
	sigaddset(&segv, SIGSEGV);
	sigprocmask(SIG_BLOCK, &segv, 0);
	kill(getpid(), SIGSEGV);
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGSEGV));
	CHECK(churn(100) == churn(100)); // New code with SIGSEGV blocked.
	puts("pending");
	fflush(stdout);
	*(volatile int *)16 = 1;
}
