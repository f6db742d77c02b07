// Faults without an address: hlt and a non-canonical load give SIGSEGV with si_code SI_KERNEL and si_addr 0, a mapped file
// read behind its end SIGBUS; RIP is the instruction's each time.
// prints: hlt 50 load 50 bus 50
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// exact
#include "check.h"

extern char privileged[], load[], behind_end[];
static volatile int hlts, loads, buses;
static char *file;

static void skip(int signal, siginfo_t *info, void *context)
{
	char *at = (char *)REGISTER(context, RIP);
	if (at == privileged) {
		CHECK(signal == SIGSEGV && info->si_code == SI_KERNEL && info->si_addr == 0);
		hlts++;
		REGISTER(context, RIP) += 1;
	} else if (at == load) {
		CHECK(signal == SIGSEGV && info->si_code == SI_KERNEL && info->si_addr == 0);
		loads++;
		REGISTER(context, RIP) += 3;
	} else {
		CHECK(at == behind_end && signal == SIGBUS && info->si_code == BUS_ADRERR);
		CHECK(info->si_addr == file + 4096);
		buses++;
		REGISTER(context, RIP) += 3;
	}
}

int main(void)
{
	int fd = memfd_create("short", 0);
	CHECK(fd >= 0 && ftruncate(fd, 100) == 0);
	file = mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 0);
	on(SIGSEGV, skip, 0);
	on(SIGBUS, skip, 0);
	for (int i = 0; i < 50; i++) {
		asm volatile("privileged: hlt" : : : "memory");
		asm volatile("load: mov (%0), %%rax" : : "b"(0x123456789abcdef0) : "rax", "memory");
		asm volatile("behind_end: mov (%0), %%rax" : : "b"(file + 4096) : "rax", "memory");
	}
	printf("hlt %d load %d bus %d\n", hlts, loads, buses);
}
