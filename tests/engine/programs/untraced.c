// Processes that no tracer is told of would go uncounted, made by either call.
// prints: ended 3
// unpinned
// build clone: gcc -O2 -DNUMBER=SYS_clone
// build clone3: gcc -O2 -DNUMBER=SYS_clone3
// refused by dbi: CLONE_UNTRACED
// refused by step: CLONE_UNTRACED
#include "check.h"
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(void)
{
	struct clone_args args = {.flags = CLONE_UNTRACED, .exit_signal = SIGCHLD};
	int status;
	long child = NUMBER == SYS_clone ? syscall(SYS_clone, CLONE_UNTRACED | SIGCHLD, 0, 0, 0, 0)
					 : syscall(SYS_clone3, &args, sizeof(args));
	if (child == 0)
		_exit(3);
	CHECK(waitpid(child, &status, 0) == child);
	printf("ended %d\n", WEXITSTATUS(status));
}
