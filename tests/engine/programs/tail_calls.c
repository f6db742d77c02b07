// Mutual tail calls, direct and through pointers, 20000 deep: the stack stays where it is.
// prints: even 20000
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

typedef int step_function(int, char *);
static step_function *volatile next[3];
static char *low;

__attribute__((noinline)) static int even(int left, char *stack)
{
	char *here = __builtin_frame_address(0);
	if (!low || here < low)
		low = here;
	return left == 0 ? 1 : next[left % 3](left - 1, stack);
}

__attribute__((noinline)) static int odd(int left, char *stack)
{
	return left == 0 ? 0 : even(left - 1, stack);
}

static step_function other;
__attribute__((noinline)) static int other(int left, char *stack)
{
	return odd(left, stack);
}

int main(void)
{
	char *here = __builtin_frame_address(0);
	next[0] = odd;
	next[1] = other;
	next[2] = odd;
	CHECK(even(20000, here) == 1);
	CHECK(here - low < 4096);
	puts("even 20000");
}
