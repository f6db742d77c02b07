// vfork shares memory and stops the parent until the child has called exec or exit.
// prints: execs 20 exits 20
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <sys/wait.h>

int main(int argc, char **argv)
{
	volatile int shared = 0;
	int status, execs = 0, exits = 0;
	if (argc > 1)
		return 17;
	for (int i = 0; i < 20; i++) {
		pid_t child = vfork();
		if (child == 0) {
			shared++;
			execl("/proc/self/exe", argv[0], "again", (char *)0);
			_exit(1);
		}
		CHECK(shared == 2 * i + 1);
		CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 17);
		execs++;
		child = vfork();
		if (child == 0) {
			shared++;
			_exit(i);
		}
		CHECK(shared == 2 * i + 2);
		CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == i);
		exits++;
	}
	printf("execs %d exits %d\n", execs, exits);
}
