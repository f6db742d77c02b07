// Signals within signals: SIGUSR1 raises SIGUSR2, whose handler faults and is repaired; SA_NODEFER goes 20 deep.
// prints: usr1 50 usr2 50 segv 50 depth 20
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

static volatile int usr1, usr2, segv, depth, deepest;
static volatile unsigned char *page;

static void handle(int signal, siginfo_t *info, void *context)
{
	if (signal == SIGUSR1) {
		usr1++;
		raise(SIGUSR2);
		CHECK(usr2 == usr1);
	} else if (signal == SIGUSR2) {
		usr2++;
		page[usr2] = 1;
		CHECK(segv == usr2);
		mprotect((void *)page, 4096, PROT_READ);
	} else if (signal == SIGSEGV) {
		segv++;
		CHECK(info->si_addr == page + segv);
		mprotect((void *)page, 4096, PROT_READ | PROT_WRITE);
	} else if (++depth < 20) {
		raise(signal);
		deepest = deepest > depth ? deepest : depth;
		depth--;
	}
}

int main(void)
{
	page = pages(1, PROT_READ);
	on(SIGUSR1, handle, 0);
	on(SIGUSR2, handle, 0);
	on(SIGSEGV, handle, 0);
	on(SIGHUP, handle, SA_NODEFER);
	for (int i = 0; i < 50; i++)
		raise(SIGUSR1);
	raise(SIGHUP);
	printf("usr1 %d usr2 %d segv %d depth %d\n", usr1, usr2, segv, deepest);
}
