// LeakSanitizer stops all threads from a process that is made so that no tracer is told of it.
// prints: nothing leaks
// build default: gcc -O1 -fsanitize=address
// refused by dbi: CLONE_UNTRACED
#include "check.h"

int main(void)
{
	puts("nothing leaks");
}
