// Signals sent while blocked are pending, and come when unblocked: in order when the handlers block one another, stacked
// (the last set up runs first) when not; queued real-time signals keep their values.
// prints: 10 12 34 34 34
// prints: 34 34 34 12 10
// prints: values 1 2 3 1 2 3
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

static volatile int order[16], values[16], calls, queued;

static void note(int signal, siginfo_t *info, void *context)
{
	order[calls++] = signal;
	if (signal == SIGRTMIN)
		values[queued++] = info->si_value.sival_int;
}

static void round_of(int blocking)
{
	struct sigaction action = {.sa_flags = SA_SIGINFO};
	sigset_t all, old, pending;
	action.sa_sigaction = note;
	if (blocking)
		sigfillset(&action.sa_mask);
	sigaction(SIGUSR1, &action, 0);
	sigaction(SIGUSR2, &action, 0);
	sigfillset(&action.sa_mask);
	sigaction(SIGRTMIN, &action, 0);
	sigfillset(&all);
	CHECK(sigprocmask(SIG_SETMASK, &all, &old) == 0);
	kill(getpid(), SIGUSR2);
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR1);
	for (int i = 1; i <= 3; i++)
		CHECK(sigqueue(getpid(), SIGRTMIN, (union sigval){.sival_int = i}) == 0);
	CHECK(churn(100) == churn(100) && calls == 0);
	CHECK(sigpending(&pending) == 0 && sigismember(&pending, SIGUSR1));
	CHECK(sigprocmask(SIG_SETMASK, &old, 0) == 0);
	for (int i = 0; i < calls; i++)
		printf("%d%c", order[i], i == calls - 1 ? '\n' : ' ');
	calls = 0;
}

int main(void)
{
	round_of(1);
	round_of(0);
	printf("values");
	for (int i = 0; i < queued; i++)
		printf(" %d", values[i]);
	puts("");
}
