// A daemon is left behind: the program ends at once, the daemon in its own session a little later.
// prints: left
// build dynamic: gcc -O2
#include "check.h"
#include <fcntl.h>
#include <sys/wait.h>

int main(void)
{
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		CHECK(setsid() > 0);
		if (fork() > 0)
			_exit(0);
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0), dup2(null, 1), dup2(null, 2);
		usleep(100000);
		_exit(churn(1000) != churn(1000));
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	puts("left");
}
