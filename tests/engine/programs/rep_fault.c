// rep movsb runs into a protected page in the middle: the handler sees how far it came in rcx, rsi and rdi, repairs, and the
// instruction goes on; so does rep stosq, and a repe cmpsb.
// prints: movs 50 stos 50 cmps 50
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

extern char movs[], stos[], cmps[];
static unsigned char *to, *from;
static volatile int faults[3];

static void repair(int signal, siginfo_t *info, void *context)
{
	char *at = (char *)REGISTER(context, RIP);
	CHECK(info->si_addr == to + 4096 && REGISTER(context, RDI) == (greg_t)to + 4096);
	if (at == stos) {
		CHECK(REGISTER(context, RCX) == 512);
		faults[1]++;
	} else {
		CHECK(at == movs || at == cmps);
		CHECK(REGISTER(context, RCX) == 4096 && REGISTER(context, RSI) == (greg_t)from + 4096);
		faults[at == movs ? 0 : 2]++;
	}
	CHECK(mprotect(to + 4096, 4096, PROT_READ | PROT_WRITE) == 0);
}

int main(void)
{
	from = pages(2, PROT_READ | PROT_WRITE);
	to = pages(2, PROT_READ | PROT_WRITE);
	on(SIGSEGV, repair, 0);
	for (int i = 0; i < 50; i++) {
		void *rdi = to, *rsi = from;
		long rcx = 8192;
		from[8191] = i;
		CHECK(mprotect(to + 4096, 4096, PROT_NONE) == 0);
		asm volatile("movs: rep movsb" : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory");
		CHECK(rcx == 0 && to[8191] == i);
		CHECK(mprotect(to + 4096, 4096, PROT_NONE) == 0);
		rdi = to, rsi = from, rcx = 8192;
		asm volatile("cmps: repe cmpsb" : "+D"(rdi), "+S"(rsi), "+c"(rcx) : : "memory", "cc");
		CHECK(rcx == 0);
		CHECK(mprotect(to + 4096, 4096, PROT_NONE) == 0);
		rdi = to, rcx = 1024;
		asm volatile("stos: rep stosq" : "+D"(rdi), "+c"(rcx) : "a"((long)i) : "memory");
		CHECK(rcx == 0 && to[8184] == i);
	}
	printf("movs %d stos %d cmps %d\n", faults[0], faults[1], faults[2]);
}
