// An interpreter with computed goto runs a small loop: one indirect jump a step, at six places.
// prints: accumulator 500500
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// build musl: musl-gcc -O2 -static
// exact
#include "check.h"

enum { LOAD, ADD, DECREMENT, LOOP, NOTHING, STOP };

static long run(const unsigned char *program)
{
	static const void *const table[] = {&&load, &&add, &&decrement, &&loop, &&nothing, &&stop};
	const unsigned char *at = program;
	long accumulator = 0, counter = 0;
#define NEXT goto *table[*at++]
	NEXT;
load:
	counter = 1000;
	NEXT;
add:
	accumulator += counter;
	NEXT;
decrement:
	counter--;
	NEXT;
loop:
	if (counter)
		at = program + 1;
	NEXT;
nothing:
	NEXT;
stop:
	return accumulator;
}

int main(void)
{
	static const unsigned char program[] = {LOAD, ADD, NOTHING, DECREMENT, NOTHING, LOOP, STOP};
	printf("accumulator %ld\n", run(program));
}
