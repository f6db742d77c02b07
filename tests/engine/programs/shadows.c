// Maps over all that sanitizers take for their shadows and forbid, in the layouts of AddressSanitizer, ThreadSanitizer (of gcc 12
// and of LLVM 18) and MemorySanitizer, and goes on.
// prints: mapped 4
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <sys/wait.h>

struct piece {
	uint64_t start, end;
};

static const struct piece layouts[4][6] = {
	{{0x7fff8000, 0x10007fff8000}},
	{{0x018000000000, 0x550000000000}, {0x568000000000, 0x7b0000000000}, {0x7c0000000000, 0x7e8000000000}},
	{{0x008000000000, 0x550000000000}, {0x5a0000000000, 0x720000000000}, {0x730000000000, 0x7a0000000000}},
	{{0x010000000000, 0x510000000000}, {0x600000000000, 0x700000000000}},
};

static void take(const struct piece *piece)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
	uint64_t bytes = piece->end - piece->start;
	char *memory = mmap((void *)piece->start, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
	CHECK(memory == (void *)piece->start);
	memory[0] = memory[bytes / 2] = memory[bytes - 1] = 1;
	CHECK(mprotect(memory, bytes, PROT_NONE) == 0);
}

int main(void)
{
	int mapped = 0;
	for (int i = 0; i < 4; i++) {
		int status, child = fork();
		if (child == 0) {
			for (const struct piece *piece = layouts[i]; piece->end; piece++)
				take(piece);
			exit(0);
		}
		CHECK(waitpid(child, &status, 0) == child);
		mapped += status == 0;
	}
	printf("mapped %d\n", mapped);
}
