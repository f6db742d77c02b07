// Signals to threads: pthread_kill reaches its own thread, eight threads repair faults at once, a cancelled thread unwinds.
// prints: received 80 repaired 160 cancelled 1 cleaned 1
// build dynamic: gcc -O2 -pthread
// build static: gcc -O2 -pthread -static
#include "check.h"
#include <pthread.h>

static __thread unsigned char *page;
static __thread volatile int mine;
static _Atomic int received, repaired, cleaned, ready;

static void handle(int signal, siginfo_t *info, void *context)
{
	if (signal == SIGSEGV) {
		CHECK(info->si_addr == page + 5);
		CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
		repaired++;
	} else {
		mine++;
		received++;
	}
}

static void *work(void *nothing)
{
	page = pages(1, PROT_READ);
	for (int i = 0; i < 20; i++) {
		page[5] = i;
		CHECK(mprotect(page, 4096, PROT_READ) == 0);
	}
	ready++;
	while (mine < 10)
		churn(10);
	return 0;
}

static void clean(void *nothing)
{
	cleaned++;
}

static void *wait_for_ever(void *nothing)
{
	pthread_cleanup_push(clean, 0);
	for (;;)
		pause();
	pthread_cleanup_pop(0);
	return 0;
}

int main(void)
{
	pthread_t threads[8], other;
	void *result;
	on(SIGSEGV, handle, 0);
	on(SIGUSR1, handle, SA_RESTART);
	for (int i = 0; i < 8; i++)
		CHECK(pthread_create(&threads[i], 0, work, 0) == 0);
	while (ready < 8)
		usleep(100);
	for (int round = 1; round <= 10; round++) {
		for (int i = 0; i < 8; i++)
			CHECK(pthread_kill(threads[i], SIGUSR1) == 0);
		while (received < 8 * round)
			usleep(100);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], 0);
	CHECK(pthread_create(&other, 0, wait_for_ever, 0) == 0);
	usleep(1000);
	CHECK(pthread_cancel(other) == 0 && pthread_join(other, &result) == 0);
	printf("received %d repaired %d cancelled %d cleaned %d\n", received, repaired, result == PTHREAD_CANCELED, cleaned);
}
