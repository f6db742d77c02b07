// A JIT that never maps memory writable and executable at once: RW, write, RX, call, 500 rounds; old functions stay callable.
// prints: rounds 500
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

int main(void)
{
	unsigned char *code = pages(8, PROT_NONE);
	uint32_t values[64] = {0};
	for (uint32_t i = 0; i < 500; i++) {
		int slot = i * 5 % 64;
		unsigned char *page = code + slot / 8 * 4096;
		CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
		values[slot] = i + 1;
		write_return(page + slot % 8 * 512, i + 1);
		CHECK(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
		for (int old = 0; old < 64; old++)
			if (values[old])
				CHECK(call(code + old / 8 * 4096 + old % 8 * 512) == values[old]);
	}
	puts("rounds 500");
}
