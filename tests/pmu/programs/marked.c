// A loop of 200000 instructions, three times, in a region of counterfoil.h. What it costs to end a region is in the count.
#include "counterfoil.h"

int main(void)
{
	for (int i = 0; i < 3; i++) {
		COUNTERFOIL_REGION_BEGIN("body");
		unsigned long turns = 100000;
		__asm__ volatile("1: subs %0, %0, #1\n\tb.ne 1b" : "+r"(turns) : : "cc");
		COUNTERFOIL_REGION_END("body");
	}
	return 0;
}
