// Dies of a fault nobody handles, after output that must not be lost.
// prints: before
// exits: 139
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

int main(void)
{
	puts("before");
	fflush(stdout);
	*(volatile int *)16 = 1;
}
