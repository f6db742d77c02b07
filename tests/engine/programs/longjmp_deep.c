// setjmp at every hundredth of 2000 levels of recursion, left from the bottom to each of them in turn.
// prints: levels 20
// build dynamic: gcc -O1
// build static: gcc -O1 -static
// exact
#include "check.h"
#include <setjmp.h>

static jmp_buf levels[20];
static volatile int next, seen;

__attribute__((noinline)) static int dive(int depth)
{
	if (depth == 2000)
		longjmp(levels[next], next + 1);
	if (depth % 100 == 0) {
		int from = setjmp(levels[depth / 100]);
		if (from) {
			CHECK(from == depth / 100 + 1 && from == next + 1);
			seen++;
			return depth;
		}
	}
	return dive(depth + 1) + 1;
}

int main(void)
{
	for (next = 19; next >= 0; next--)
		CHECK(dive(0) == 2 * 100 * next);
	printf("levels %d\n", seen);
}
