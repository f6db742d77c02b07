// A handler is left by siglongjmp, for a raised signal and for a fault; the mask comes back each time.
// prints: left 400
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"
#include <setjmp.h>

static sigjmp_buf back;
static int left;

static void leave(int signal, siginfo_t *info, void *context)
{
	siglongjmp(back, signal);
}

int main(void)
{
	sigset_t mask;
	on(SIGUSR1, leave, 0);
	on(SIGSEGV, leave, 0);
	for (volatile int i = 0; i < 400; i++) {
		int signal = sigsetjmp(back, 1);
		if (signal == 0) {
			if (i % 2)
				raise(SIGUSR1);
			*(volatile int *)16 = 1;
		}
		CHECK(signal == (i % 2 ? SIGUSR1 : SIGSEGV));
		sigprocmask(SIG_BLOCK, 0, &mask);
		CHECK(!sigismember(&mask, SIGUSR1) && !sigismember(&mask, SIGSEGV));
		left++;
	}
	printf("left %d\n", left);
}
