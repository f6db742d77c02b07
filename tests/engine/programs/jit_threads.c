// Four threads run generated code while a fifth publishes new functions at fresh .
// prints: published 2000
// build dynamic: gcc -O2 -pthread
#include "check.h"
#include <pthread.h>

static unsigned char *_Atomic current;
static _Atomic int done;

static void *run(void *nothing)
{
	while (!done) {
		unsigned char *code = current;
		CHECK(call(code) == (uint32_t)(uintptr_t)code);
	}
	return 0;
}

int main(void)
{
	pthread_t threads[4];
	unsigned char *code = pages(4, PROT_READ | PROT_WRITE | PROT_EXEC);
	write_return(code, (uint32_t)(uintptr_t)code);
	current = code;
	for (int i = 0; i < 4; i++)
		CHECK(pthread_create(&threads[i], 0, run, 0) == 0);
	for (int i = 1; i < 2000; i++) {
		unsigned char *next = code + i * 8;
		write_return(next, (uint32_t)(uintptr_t)next);
		current = next;
	}
	done = 1;
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], 0);
	puts("published 2000");
}
