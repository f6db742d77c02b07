// A function in RWX memory is rewritten 1000 times and called after each: its constant, then its length, then a callee.
// prints: rewritten 3000
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

int main(void)
{
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	int rewritten = 0;
	for (uint32_t i = 0; i < 1000; i++) {
		write_return(code, i);
		CHECK(call(code) == i);
		rewritten++;
	}
	for (uint32_t i = 0; i < 1000; i++) { // i % 50 nops before it.
		memset(code, 0x90, i % 50);
		write_return(code + i % 50, i);
		CHECK(call(code) == i);
		rewritten++;
	}
	code[0] = 0xe8; // call code+2000; add $1, %eax; ret
	memcpy(code + 1, &(int){2000 - 5}, 4);
	memcpy(code + 5, "\x83\xc0\x01\xc3", 4);
	for (uint32_t i = 0; i < 1000; i++) {
		write_return(code + 2000, i); // Only the callee changes.
		CHECK(call(code) == i + 1);
		rewritten++;
	}
	printf("rewritten %d\n", rewritten);
}
