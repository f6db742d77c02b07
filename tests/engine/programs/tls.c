// Thread-local variables of the program and of a shared object opened later, in eight threads, by every access model.
// prints: own 8 object 8
// library local.so: gcc -O1 -shared -fPIC -DLOCAL
// build dynamic: gcc -O2 -pthread
#ifdef LOCAL
static __thread long local = 100;
long add_local(long value)
{
	return local += value;
}
#else
#include "check.h"
#include <dlfcn.h>
#include <pthread.h>

static __thread long own = 10;
static _Atomic int owns, objects;
static long (*add_local)(long);

static void *work(void *number)
{
	long sum = 0;
	for (int i = 0; i < 500; i++) {
		own += (long)number;
		sum = add_local((long)number);
	}
	owns += own == 10 + 500 * (long)number;
	objects += sum == 100 + 500 * (long)number;
	return 0;
}

int main(void)
{
	pthread_t threads[8];
	void *object = dlopen("./local.so", RTLD_NOW);
	CHECK(object && (add_local = (long (*)(long))dlsym(object, "add_local")));
	for (long i = 0; i < 8; i++)
		CHECK(pthread_create(&threads[i], 0, work, (void *)i) == 0);
	for (int i = 0; i < 8; i++)
		pthread_join(threads[i], 0);
	printf("own %d object %d\n", owns, objects);
}
#endif
