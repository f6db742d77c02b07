// sigsuspend runs the handler and returns EINTR, sigwaitinfo and signalfd take a blocked signal without any handler.
// prints: suspended 20 waited 20 read 20
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <sys/signalfd.h>
#include <sys/wait.h>

static volatile int suspended;

static void note(int signal, siginfo_t *info, void *context)
{
	suspended++;
}

int main(void)
{
	sigset_t usr1, none;
	siginfo_t info;
	struct signalfd_siginfo record;
	int waited = 0, taken = 0;
	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	CHECK(sigprocmask(SIG_BLOCK, &usr1, 0) == 0);
	on(SIGUSR1, note, 0);
	int fd = signalfd(-1, &usr1, 0);
	for (int i = 0; i < 60; i++) {
		pid_t child = fork();
		if (child == 0) {
			if (i % 2)
				usleep(1000);
			kill(getppid(), SIGUSR1);
			_exit(0);
		}
		if (i % 3 == 0) {
			CHECK(sigsuspend(&none) == -1 && errno == EINTR);
		} else if (i % 3 == 1) {
			CHECK(sigwaitinfo(&usr1, &info) == SIGUSR1 && info.si_pid == child);
			waited++;
		} else {
			CHECK(read(fd, &record, sizeof(record)) == sizeof(record));
			CHECK(record.ssi_signo == SIGUSR1);
			taken++;
		}
		CHECK(waitpid(child, 0, 0) == child);
	}
	printf("suspended %d waited %d read %d\n", suspended, waited, taken);
}
