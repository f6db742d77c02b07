// Dies of abort, SIGABRT from the C library.
// exits: 134
// build dynamic: gcc -O2
#include "check.h"

int main(void)
{
	abort();
}
