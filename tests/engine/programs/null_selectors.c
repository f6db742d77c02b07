// A null selector in ds and es, in each of its four forms, is nothing to the processor: the program goes on, gets signals and makes
// system calls that the engine sees.
// prints: null selectors
// build static: gcc -O1 -static
// build dynamic: gcc -O1
#include "check.h"

static volatile int handled;

static void handle(int signal, siginfo_t *info, void *context)
{
	handled += signal == SIGILL;
	REGISTER(context, RIP) += 2;
}

int main(void)
{
	on(SIGILL, handle, 0);
	for (unsigned short selector = 0; selector < 4; selector++) {
		__asm__ volatile("mov %0, %%ds; mov %0, %%es" : : "r"(selector));
		__asm__ volatile("ud2");
		raise(SIGCHLD);
		CHECK(mprotect(pages(1, PROT_READ), 4096, PROT_READ | PROT_EXEC) == 0);
	}
	CHECK(handled == 4);
	puts("null selectors");
	return 0;
}
