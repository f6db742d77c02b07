// Processes that are killed at any moment of their start: while they fork, while they begin a program, in a fork of theirs.
// Nothing hangs, and what they had started goes on.
// prints: killed 60, all heirs ended
// build default: gcc -O2
#include "check.h"
#include <signal.h>
#include <sys/wait.h>
#include <time.h>

static void pause_for(int nanoseconds)
{
	struct timespec time = {0, nanoseconds};
	nanosleep(&time, 0);
}

int main(int argc, char **argv)
{
	int heirs[2], killed = 0;
	char byte;
	if (argc > 1)
		return 0;
	CHECK(pipe(heirs) == 0);
	for (int i = 0; i < 120; i++) {
		int status;
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0 && i % 2)
			for (;;) {
				// Its heirs hold the pipe, and end by themselves.
				if (fork() == 0)
					_exit(0);
				while (waitpid(-1, 0, WNOHANG) > 0)
					;
			}
		if (child == 0) {
			// Killed before or after it has ended: both will do.
			execl("/proc/self/exe", "again", "end", (char *)0);
			_exit(1);
		}
		pause_for(i % 2 ? i * 500 : i * 4000);
		kill(child, SIGKILL);
		CHECK(waitpid(child, &status, 0) == child);
		killed += i % 2 && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
		CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
	}
	close(heirs[1]);
	CHECK(read(heirs[0], &byte, 1) == 0);
	printf("killed %d, all heirs ended\n", killed);
}
