// The program uses gs itself: arch_prctl(ARCH_SET_GS), loads and stores through gs, kept over signals and in each thread.
// An engine that needs gs refuses this by name.
// prints: gs 100
// refused by dbi: sets the segment register gs
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <asm/prctl.h>
#include <sys/syscall.h>

static volatile int signals;

static void note(int signal, siginfo_t *info, void *context)
{
	signals++;
}

int main(void)
{
	uint64_t area[4] = {0}, value, base;
	on(SIGUSR1, note, 0);
	CHECK(syscall(SYS_arch_prctl, ARCH_SET_GS, area) == 0);
	for (uint64_t i = 1; i <= 100; i++) {
		asm volatile("mov %0, %%gs:8" : : "r"(i) : "memory");
		raise(SIGUSR1);
		asm volatile("mov %%gs:8, %0" : "=r"(value) : : "memory");
		CHECK(value == i && area[1] == i);
	}
	CHECK(syscall(SYS_arch_prctl, ARCH_GET_GS, &base) == 0 && base == (uintptr_t)area);
	printf("gs %d\n", signals);
}
