// Executed code goes away and other code comes to the same address: munmap and mmap, mmap over it, mremap onto it, a file mapping
// over it, mprotect to RW and back; and executed code that moves with mremap.
// prints: rounds 600
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"

#define RX (PROT_READ | PROT_EXEC)
#define RW (PROT_READ | PROT_WRITE)

static unsigned char *map(void *at, int flags, int fd)
{
	void *code = mmap(at, 4096, RW, MAP_PRIVATE | flags, fd, 0);
	CHECK(code != MAP_FAILED && (!at || code == at));
	return code;
}

int main(void)
{
	uint32_t rounds = 0;
	int fd = memfd_create("code", 0);
	unsigned char text[6], *code = map(0, MAP_ANONYMOUS, -1), *spare;
	for (; rounds < 600; rounds++) {
		switch (rounds % 6) {
		case 0:
			CHECK(munmap(code, 4096) == 0);
			map(code, MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1);
			write_return(code, rounds);
			break;
		case 1:
			map(code, MAP_ANONYMOUS | MAP_FIXED, -1);
			write_return(code, rounds);
			break;
		case 2:
			spare = map(0, MAP_ANONYMOUS, -1);
			write_return(spare, rounds);
			CHECK(mremap(spare, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, code) == code);
			break;
		case 3:
			write_return(text, rounds);
			CHECK(pwrite(fd, text, 6, 0) == 6 && ftruncate(fd, 4096) == 0);
			map(code, MAP_FIXED, fd);
			break;
		case 4:
			CHECK(mprotect(code, 4096, RW) == 0);
			write_return(code, rounds);
			break;
		case 5: // Moves away and is called there; the old place is called again next round.
			CHECK(mprotect(code, 4096, RW) == 0);
			write_return(code, rounds);
			CHECK(mprotect(code, 4096, RX) == 0 && call(code) == rounds);
			spare = map(0, MAP_ANONYMOUS, -1);
			CHECK(mremap(code, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, spare) == spare);
			CHECK(call(spare) == rounds);
			CHECK(mremap(spare, 4096, 4096, MREMAP_MAYMOVE | MREMAP_FIXED, code) == code);
			break;
		}
		CHECK(mprotect(code, 4096, RX) == 0 && call(code) == rounds);
	}
	printf("rounds %u\n", rounds);
}
