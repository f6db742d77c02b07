// A process of several threads is told to end by another, while its first thread is about to go on: the kernel wakes one of
// the others, which finds that the first has taken the signal, and goes on waiting.
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile sig_atomic_t told;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t never = PTHREAD_COND_INITIALIZER;

static void tell(int signal)
{
	(void)signal;
	told = 1;
}

static void *waits(void *nothing)
{
	pthread_mutex_lock(&lock);
	for (;;)
		pthread_cond_wait(&never, &lock);
	return nothing;
}

static int server(int ready, int work)
{
	pthread_t threads[3];
	char byte;
	signal(SIGTERM, tell);
	for (int i = 0; i < 3; i++)
		if (pthread_create(&threads[i], 0, waits, 0))
			return 1;
	if (write(ready, "r", 1) != 1)
		return 1;
	while (!told && read(work, &byte, 1) == 1)
		;
	poll(0, 0, 35);
	return 7;
}

int main(void)
{
	int ready[2], work[2], status;
	char byte;
	if (pipe(ready) || pipe(work))
		return 1;
	pid_t child = fork();
	if (child == 0)
		_exit(server(ready[1], work[0]));
	if (read(ready[0], &byte, 1) != 1)
		return 1;
	poll(0, 0, 10);
	if (write(work[1], "w", 1) != 1 || kill(child, SIGTERM) || write(work[1], "w", 1) != 1)
		return 1;
	if (waitpid(child, &status, 0) != child)
		return 1;
	printf("ended with %d\n", WEXITSTATUS(status));
	return 0;
}
