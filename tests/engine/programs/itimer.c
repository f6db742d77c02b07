// SIGALRM and SIGVTALRM hit a compute loop until 200 and 20 of them came; every round of the loop must give the right result.
// prints: right
// build dynamic: gcc -O2
// build musl: musl-gcc -O2 -static
#include "check.h"
#include <sys/time.h>

static volatile sig_atomic_t ticks[2];

static void tick(int signal, siginfo_t *info, void *context)
{
	ticks[signal == SIGVTALRM]++;
}

int main(void)
{
	struct itimerval often = {{0, 300}, {0, 300}};
	uint64_t right = churn(1000);
	on(SIGALRM, tick, SA_RESTART);
	on(SIGVTALRM, tick, SA_RESTART);
	CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
	CHECK(setitimer(ITIMER_VIRTUAL, &often, 0) == 0);
	while (ticks[0] < 200 || ticks[1] < 20)
		CHECK(churn(1000) == right);
	puts("right");
}
