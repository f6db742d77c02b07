// A read fails with EINTR after a handler without SA_RESTART; poll and nanosleep do so even with it.
// prints: interrupted 60
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <poll.h>
#include <sys/time.h>
#include <time.h>

static void alarmed(int signal, siginfo_t *info, void *context)
{
}

// Again and again: on a busy machine the first may come before the call that it shall interrupt.
static void every(int microseconds)
{
	struct itimerval often = {{0, microseconds}, {0, microseconds}};
	CHECK(setitimer(ITIMER_REAL, &often, 0) == 0);
}

static void interrupted(int result)
{
	CHECK(result == -1 && errno == EINTR);
	every(0);
}

int main(void)
{
	int ends[2];
	char byte;
	CHECK(pipe(ends) == 0);
	struct pollfd wait = {.fd = ends[0], .events = POLLIN};
	for (int i = 0; i < 20; i++) {
		on(SIGALRM, alarmed, 0);
		every(2000);
		interrupted(read(ends[0], &byte, 1));
		on(SIGALRM, alarmed, SA_RESTART);
		every(2000);
		interrupted(poll(&wait, 1, -1));
		struct timespec hour = {3600, 0}, rest = {0, 0};
		every(2000);
		interrupted(nanosleep(&hour, &rest));
		CHECK(rest.tv_sec == 3599);
	}
	puts("interrupted 60");
}
