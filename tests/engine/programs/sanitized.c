// Built for AddressSanitizer, ThreadSanitizer and UndefinedBehaviorSanitizer: their shadows take fixed addresses, and each finds
// the one thing that it looks for.
// prints: sum 2000 found 1
// build address: gcc -O1 -fsanitize=address -DFOUND=1 -pthread
// build address-fixed: gcc -O1 -fsanitize=address -DFOUND=1 -no-pie -pthread
// build thread: gcc -O1 -fsanitize=thread -DFOUND=66 -pthread
// build thread-fixed: gcc -O1 -fsanitize=thread -DFOUND=66 -no-pie -pthread
// build undefined: gcc -O1 -fsanitize=undefined -fno-sanitize-recover=all -DFOUND=1 -pthread
#include "check.h"
#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static int sum;
static int raced;

// Leaks are looked for by a process that traces this one.
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

static void *add(void *argument)
{
	for (int i = 0; i < 1000; i++) {
		pthread_mutex_lock(&mutex);
		sum++;
		pthread_mutex_unlock(&mutex);
	}
	return argument;
}

static void *race(void *argument)
{
	raced++;
	return argument;
}

static void twice(void *(*run)(void *))
{
	pthread_t threads[2];
	for (int i = 0; i < 2; i++)
		CHECK(pthread_create(&threads[i], NULL, run, NULL) == 0);
	for (int i = 0; i < 2; i++)
		CHECK(pthread_join(threads[i], NULL) == 0);
}

// All that any of them looks for, and no report of it.
static int go_wrong(void)
{
	volatile int last = 0x7fffffff;
	volatile char *bytes = malloc(8);
	dup2(open("/dev/null", O_WRONLY), 2);
	free((void *)bytes);
	bytes[0] = 1;
	twice(race);
	last = last + 1;
	return 0;
}

int main(void)
{
	int status, child = fork();
	if (child == 0)
		exit(go_wrong());
	CHECK(waitpid(child, &status, 0) == child);
	twice(add);
	printf("sum %d found %d\n", sum, WIFEXITED(status) && WEXITSTATUS(status) == FOUND);
}
