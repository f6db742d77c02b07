// A second thread calls execve while others spin: all others end, and the new program has the leader's id.
// prints: same process
// build dynamic: gcc -O2 -pthread
// build static: gcc -O2 -pthread -static
#include "check.h"
#include <pthread.h>
#include <sys/syscall.h>

static char *name, id[16];

static void *spin(void *nothing)
{
	for (volatile uint64_t i = 0;; i++)
		;
}

static void *become(void *nothing)
{
	usleep(1000);
	execl("/proc/self/exe", name, id, (char *)0);
	return 0;
}

int main(int argc, char **argv)
{
	pthread_t thread;
	if (argc > 1) {
		CHECK(atoi(argv[1]) == getpid() && getpid() == syscall(SYS_gettid));
		puts("same process");
		return 0;
	}
	name = argv[0];
	snprintf(id, sizeof(id), "%d", getpid());
	for (int i = 0; i < 3; i++)
		CHECK(pthread_create(&thread, 0, spin, 0) == 0);
	CHECK(pthread_create(&thread, 0, become, 0) == 0);
	pthread_join(thread, 0);
	return 1;
}
