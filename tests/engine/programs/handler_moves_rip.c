// A handler sends the program elsewhere: other RIP, other registers, other flags, another stack depth.
// prints: landed 100
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

extern char elsewhere[];
static volatile int landed;

static void divert(int signal, siginfo_t *info, void *context)
{
	REGISTER(context, RIP) = (greg_t)elsewhere;
	REGISTER(context, RBX) = 0x123456789abcdef0;
	REGISTER(context, R15) = landed;
	REGISTER(context, RSP) += 16;
	REGISTER(context, EFL) |= 1;
	landed++;
}

__attribute__((noinline, noclone)) static void round_of(long i, pid_t self)
{
	uint64_t b = 0, r15 = 0, carry = 0;
	asm volatile("lea -128(%%rsp), %%rsp; push %%rax; push %%rax; clc\n"
		     "mov $62, %%eax; syscall; ud2; ud2\n" // kill(self, SIGUSR1)
		     "elsewhere: adc $0, %2; lea 128(%%rsp), %%rsp; mov %%r15, %1"
		     : "=&b"(b), "=&r"(r15), "+&r"(carry)
		     : "D"(self), "S"((long)SIGUSR1)
		     : "rax", "rcx", "r11", "r15", "cc", "memory");
	CHECK(b == 0x123456789abcdef0 && r15 == (uint64_t)i && carry == 1);
}

int main(void)
{
	on(SIGUSR1, divert, 0);
	for (long i = 0; i < 100; i++)
		round_of(i, getpid());
	printf("landed %d\n", landed);
}
