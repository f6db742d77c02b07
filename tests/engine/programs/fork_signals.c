// How children end reaches the parent unchanged: exit codes, death by each of several signals, SIGCHLD with its siginfo.
// prints: exits 10 killed 5 faulted 1 told 16
// build dynamic: gcc -O2
#include "check.h"
#include <sys/resource.h>
#include <sys/wait.h>

static volatile int told;

static void child_ended(int signal, siginfo_t *info, void *context)
{
	told++;
}

static int end_of(int how)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		struct rlimit none = {0, 0};
		setrlimit(RLIMIT_CORE, &none);
		signal(SIGALRM, SIG_DFL);
		if (how < 0)
			kill(getpid(), -how);
		if (how == 1000)
			*(volatile int *)16 = 1;
		_exit(how);
	}
	while (waitpid(child, &status, 0) != child)
		CHECK(errno == EINTR);
	return status;
}

int main(void)
{
	static const int fatal[] = {SIGKILL, SIGTERM, SIGABRT, SIGALRM, SIGSEGV};
	int status;
	on(SIGCHLD, child_ended, 0);
	for (int i = 0; i < 10; i++) {
		status = end_of(i * 25);
		CHECK(WIFEXITED(status) && WEXITSTATUS(status) == i * 25);
	}
	for (int i = 0; i < 5; i++) {
		status = end_of(-fatal[i]);
		CHECK(WIFSIGNALED(status) && WTERMSIG(status) == fatal[i]);
	}
	status = end_of(1000);
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV);
	printf("exits 10 killed 5 faulted 1 told %d\n", told);
}
