// A read fails with EINTR after a handler without SA_RESTART; poll and nanosleep do so even with it.
// prints: interrupted 60
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <poll.h>
#include <sys/time.h>
#include <time.h>

static volatile int calls;

static void alarmed(int signal, siginfo_t *info, void *context)
{
	calls++;
}

static void soon(void)
{
	struct itimerval once = {{0, 0}, {0, 2000}};
	CHECK(setitimer(ITIMER_REAL, &once, 0) == 0);
}

int main(void)
{
	int ends[2];
	char byte;
	CHECK(pipe(ends) == 0);
	struct pollfd wait = {.fd = ends[0], .events = POLLIN};
	for (int i = 0; i < 20; i++) {
		on(SIGALRM, alarmed, 0);
		soon();
		CHECK(read(ends[0], &byte, 1) == -1 && errno == EINTR);
		on(SIGALRM, alarmed, SA_RESTART);
		soon();
		CHECK(poll(&wait, 1, -1) == -1 && errno == EINTR);
		soon();
		struct timespec hour = {3600, 0}, rest = {0, 0};
		CHECK(nanosleep(&hour, &rest) == -1 && errno == EINTR && rest.tv_sec == 3599);
	}
	printf("interrupted %d\n", calls);
}
