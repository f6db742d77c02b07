// A process is stopped and continued at any moment while it forks, makes threads, maps code and executes programs: it loses
// neither a stop nor a continuation, and does all it had to.
// prints: stopped 60, worked
// build default: gcc -O2 -pthread
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>
#include <time.h>

static volatile int threads;

static void *begin(void *unused)
{
	__sync_fetch_and_add(&threads, 1);
	return unused;
}

static void work(void)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		unsigned char *code = pages(1, PROT_READ | PROT_WRITE);
		write_return(code, 7);
		CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0);
		CHECK(call(code) == 7);
		execl("/proc/self/exe", "again", "end", (char *)0);
		_exit(1);
	}
	CHECK(child > 0);
	while (waitpid(child, &status, 0) != child)
		CHECK(errno == EINTR);
	CHECK(status == 0);
	pthread_t thread;
	CHECK(pthread_create(&thread, 0, begin, 0) == 0);
	CHECK(pthread_join(thread, 0) == 0);
}

int main(int argc, char **argv)
{
	enum { STOPS = 60 };
	int status, ready[2], done[2];
	char byte;
	if (argc > 1)
		return 0;
	CHECK(pipe(ready) == 0 && pipe(done) == 0);
	pid_t child = fork();
	CHECK(child >= 0);
	if (child == 0) {
		close(done[1]);
		CHECK(write(ready[1], "r", 1) == 1);
		// Until the parent has stopped it often enough.
		CHECK(fcntl(done[0], F_SETFL, O_NONBLOCK) == 0);
		int rounds = 0;
		while (read(done[0], &byte, 1) != 1) {
			work();
			rounds++;
		}
		_exit(threads != rounds);
	}
	CHECK(read(ready[0], &byte, 1) == 1);
	for (int i = 0; i < STOPS; i++) {
		struct timespec time = {0, i * 70000};
		nanosleep(&time, 0);
		CHECK(kill(child, SIGSTOP) == 0);
		CHECK(waitpid(child, &status, WUNTRACED) == child);
		CHECK(WIFSTOPPED(status) && WSTOPSIG(status) == SIGSTOP);
		CHECK(kill(child, SIGCONT) == 0);
		CHECK(waitpid(child, &status, WCONTINUED) == child && WIFCONTINUED(status));
	}
	CHECK(write(done[1], "d", 1) == 1);
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	printf("stopped %d, worked\n", STOPS);
}
