// 64 threads count with atomics, under a mutex and in thread-local variables, and meet at a barrier.
// prints: atomic 64000 mutex 64000 local 64
// build dynamic: gcc -O2 -pthread
// build static: gcc -O2 -pthread -static
// build musl: musl-gcc -O2 -pthread -static
#include "check.h"
#include <pthread.h>

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t barrier;
static int atomic, guarded, locals;
static __thread int local;

static void *work(void *number)
{
	pthread_barrier_wait(&barrier);
	for (int i = 0; i < 1000; i++) {
		__atomic_fetch_add(&atomic, 1, __ATOMIC_SEQ_CST);
		pthread_mutex_lock(&mutex);
		guarded++;
		pthread_mutex_unlock(&mutex);
		local += (long)number;
	}
	pthread_barrier_wait(&barrier);
	__atomic_fetch_add(&locals, local == 1000 * (long)number, __ATOMIC_SEQ_CST);
	return 0;
}

int main(void)
{
	pthread_t threads[64];
	pthread_barrier_init(&barrier, 0, 64);
	for (long i = 0; i < 64; i++)
		CHECK(pthread_create(&threads[i], 0, work, (void *)i) == 0);
	for (int i = 0; i < 64; i++)
		pthread_join(threads[i], 0);
	printf("atomic %d mutex %d local %d\n", atomic, guarded, locals);
}
