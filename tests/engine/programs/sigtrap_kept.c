// What a program does with SIGTRAP stays as it is when system calls are made for the engine in it: here a forked child
// gets a code cache of its own (it maps code), and more threads than there are areas begin.
// prints: child: caught 1, held back 0
// prints: child: ignored
// prints: threads: caught 1
// build default: gcc -O2 -pthread
#include "check.h"
#include <pthread.h>
#include <sys/wait.h>

static volatile sig_atomic_t caught;

static void count(int signal, siginfo_t *info, void *context)
{
	caught++;
}

static int in_child(void (*act)(void))
{
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		pages(1, PROT_READ | PROT_EXEC);
		act();
		fflush(stdout);
		_exit(0);
	}
	int status;
	CHECK(waitpid(child, &status, 0) == child);
	return status;
}

static void raise_caught(void)
{
	sigset_t held;
	raise(SIGTRAP);
	sigprocmask(SIG_BLOCK, NULL, &held);
	printf("child: caught %d, held back %d\n", (int)caught, sigismember(&held, SIGTRAP));
}

static void raise_ignored(void)
{
	raise(SIGTRAP);
	puts("child: ignored");
}

static pthread_barrier_t barrier;

static void *wait_for_all(void *unused)
{
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return unused;
}

int main(void)
{
	on(SIGTRAP, count, 0);
	CHECK(in_child(raise_caught) == 0);
	signal(SIGTRAP, SIG_IGN);
	CHECK(in_child(raise_ignored) == 0);

	enum { THREADS = 80 };
	pthread_t threads[THREADS];
	on(SIGTRAP, count, 0);
	pthread_barrier_init(&barrier, NULL, THREADS + 1);
	for (int i = 0; i < THREADS; i++)
		CHECK(pthread_create(&threads[i], NULL, wait_for_all, NULL) == 0);
	pthread_barrier_wait(&barrier);
	raise(SIGTRAP);
	printf("threads: caught %d\n", (int)caught);
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	return 0;
}
