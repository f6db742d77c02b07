// One thread sends itself a signal, another sets and takes away its handler: whatever is true when the signal arrives, the
// thread goes on where it was.
// prints: went on
// build default: gcc -O2 -pthread
#include "check.h"
#include <pthread.h>

enum { SIGNALS = 3000 };

static volatile int caught, ended;

static void count(int signal, siginfo_t *info, void *context)
{
	caught++;
}

static void *send(void *unused)
{
	for (int i = 0; i < SIGNALS; i++) {
		uint64_t before = churn(i % 7);
		CHECK(raise(SIGUSR1) == 0);
		CHECK(churn(i % 7) == before);
	}
	ended = 1;
	return unused;
}

int main(void)
{
	pthread_t sender;
	signal(SIGUSR1, SIG_IGN);
	CHECK(pthread_create(&sender, 0, send, 0) == 0);
	while (!ended) {
		on(SIGUSR1, count, 0);
		churn(20);
		signal(SIGUSR1, SIG_IGN);
		churn(20);
	}
	CHECK(pthread_join(sender, 0) == 0);
	CHECK(caught <= SIGNALS);
	puts("went on");
}
