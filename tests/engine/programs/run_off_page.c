// Straight-line code runs off the end of its page into an unmapped one, at an instruction boundary and in the middle of an
// instruction: si_addr is the next page, RIP the instruction; what came before has happened, and runs on when the page is there.
// prints: boundary 50 middle 50
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

static unsigned char *code, *at;
static volatile int faults;

static void map_next(int signal, siginfo_t *info, void *context)
{
	CHECK(info->si_addr == code + 4096 && REGISTER(context, RIP) == (greg_t)at);
	CHECK(REGISTER(context, RAX) == 3);
	CHECK(mprotect(code + 4096, 4096, PROT_READ | PROT_EXEC) == 0);
	faults++;
}

static void round_of(int inside)
{
	// xor %eax, %eax; add $1, %eax three times, then add $0x64, %eax across or behind the boundary; ret.
	static const unsigned char text[] = {0x31, 0xc0, 0x83, 0xc0, 1, 0x83, 0xc0, 1, 0x83, 0xc0, 1, 0x83, 0xc0, 100, 0xc3};
	at = code + 4096 - inside;
	CHECK(mprotect(code, 8192, PROT_READ | PROT_WRITE) == 0);
	memcpy(at - 11, text, sizeof(text));
	CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0 && mprotect(code + 4096, 4096, PROT_NONE) == 0);
	CHECK(call(at - 11) == 103);
}

int main(void)
{
	code = pages(2, PROT_NONE);
	on(SIGSEGV, map_next, 0);
	for (int i = 0; i < 50; i++) {
		round_of(0);
		round_of(1 + i % 2);
	}
	printf("boundary %d middle %d\n", faults / 2, faults / 2);
}
