// A read on an empty pipe is restarted after a handler with SA_RESTART, which then fills the pipe.
// prints: restarted 20
// build dynamic: gcc -O2
// build musl: musl-gcc -O2 -static
#include "check.h"
#include <sys/time.h>

static int ends[2];
static volatile int calls;

static void alarmed(int signal, siginfo_t *info, void *context)
{
	struct itimerval soon = {{0, 0}, {0, 2000}};
	if (++calls % 3)
		CHECK(setitimer(ITIMER_REAL, &soon, 0) == 0);
	else
		CHECK(write(ends[1], "x", 1) == 1);
}

int main(void)
{
	char byte;
	struct itimerval soon = {{0, 0}, {0, 2000}};
	CHECK(pipe(ends) == 0);
	on(SIGALRM, alarmed, SA_RESTART);
	for (int i = 0; i < 20; i++) {
		CHECK(setitimer(ITIMER_REAL, &soon, 0) == 0);
		CHECK(read(ends[0], &byte, 1) == 1 && byte == 'x');
	}
	CHECK(calls == 60);
	puts("restarted 20");
}
