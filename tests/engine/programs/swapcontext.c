// Three coroutines on stacks of their own take turns 100 times through swapcontext.
// prints: turns 300
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

static ucontext_t back, contexts[3];
static char stacks[3][16384];
static int turns;

static void coroutine(int number)
{
	for (int i = 0; i < 100; i++) {
		CHECK(turns++ == i * 3 + number);
		swapcontext(&contexts[number], &contexts[(number + 1) % 3]);
	}
}

int main(void)
{
	for (int i = 0; i < 3; i++) {
		getcontext(&contexts[i]);
		contexts[i].uc_stack.ss_sp = stacks[i];
		contexts[i].uc_stack.ss_size = sizeof(stacks[i]);
		contexts[i].uc_link = &back;
		makecontext(&contexts[i], (void (*)(void))coroutine, 1, i);
	}
	swapcontext(&back, &contexts[0]);
	printf("turns %d\n", turns);
}
