// Indirect calls, jumps and returns to addresses that are equal in their low 16 bits, or even in their low 32: each reaches its own.
// prints: calls 6400 jumps 6400 returns 6400
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

static uint64_t indirect(void *target, int how)
{
	uint64_t value;
	if (how == 0)
		asm volatile("lea -128(%%rsp), %%rsp; call *%1; lea 128(%%rsp), %%rsp" : "=&a"(value) : "r"(target) : "rcx", "memory", "cc");
	else if (how == 1)
		asm volatile("lea -128(%%rsp), %%rsp; call 1f; jmp 2f\n1: jmp *%1\n2: lea 128(%%rsp), %%rsp"
			     : "=&a"(value) : "r"(target) : "rcx", "memory", "cc");
	else // The code there calls back, and is returned to at a colliding address.
		asm volatile("lea -128(%%rsp), %%rsp; lea 1f(%%rip), %%rcx; call *%1; jmp 2f\n1: ret\n2: lea 128(%%rsp), %%rsp"
			     : "=&a"(value) : "r"((char *)target + 16) : "rcx", "memory", "cc");
	return value;
}

int main(void)
{
	unsigned char *at[64];
	int seen[3] = {0};
	for (int i = 0; i < 64; i++) { // 32 of them 64 KiB apart, 32 of them 4 GiB.
		uintptr_t where = i < 32 ? 0x200000000000 + i * 0x10000ul : 0x200000000000 + (i - 31) * 0x100000000ul;
		at[i] = mmap((void *)where, 4096, PROT_READ | PROT_WRITE | PROT_EXEC,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
		CHECK(at[i] == (void *)where);
		write_return(at[i], i);
		memcpy(at[i] + 16, "\xff\xd1", 2); // call *%rcx, then the same again.
		write_return(at[i] + 18, i);
	}
	for (int round = 0; round < 100; round++)
		for (int i = 0; i < 64; i++)
			for (int how = 0; how < 3; how++)
				seen[how] += indirect(at[(i * 29 + round) % 64], how) == (uint64_t)((i * 29 + round) % 64);
	printf("calls %d jumps %d returns %d\n", seen[0], seen[1], seen[2]);
}
