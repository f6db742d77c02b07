// A child that sleeps is stopped and continued five times: its nanosleep goes on (restart_syscall) and ends well.
// prints: slept
// build dynamic: gcc -O2
#include "check.h"
#include <sys/wait.h>
#include <time.h>

int main(void)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		struct timespec rest = {0, 300000000};
		_exit(nanosleep(&rest, 0) == 0 ? 7 : 1);
	}
	for (int i = 0; i < 5; i++) {
		usleep(10000);
		CHECK(kill(child, SIGSTOP) == 0);
		CHECK(waitpid(child, &status, WUNTRACED) == child && WIFSTOPPED(status));
		CHECK(WSTOPSIG(status) == SIGSTOP);
		CHECK(kill(child, SIGCONT) == 0);
		CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status) && WEXITSTATUS(status) == 7);
	puts("slept");
}
