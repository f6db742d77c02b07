// AVX-512: mask registers, embedded rounding and broadcast, compressed displacements relative to RIP, state across signals.
// prints: wide 100
// build dynamic: gcc -O2 -mavx512f
// needs: avx512f
#include "check.h"
#include <immintrin.h>

static uint32_t table[64] __attribute__((aligned(64)));
static volatile int signals;

static void clobber(int signal, siginfo_t *info, void *context)
{
	asm volatile("vpxord %%zmm20, %%zmm20, %%zmm20; kxorw %%k3, %%k3, %%k3" : : : "xmm20", "k3");
	signals++;
}

int main(void)
{
	on(SIGUSR1, clobber, 0);
	pid_t self = getpid();
	for (uint32_t i = 0; i < 100; i++) {
		uint32_t out[16], mask, sum = 0, want = 0;
		for (int j = 0; j < 64; j++)
			table[j] = i * j;
		asm volatile("mov $0xa5a5, %%eax; kmovw %%eax, %%k3\n"
			     "vmovdqu32 %[second], %%zmm20\n"
			     "vpaddd %[one]%{1to16%}, %%zmm20, %%zmm20%{%%k3%}\n"
			     "mov $62, %%eax; mov %[self], %%edi; mov $10, %%esi; syscall\n"
			     "vmovdqu32 %%zmm20, %[out]; kmovw %%k3, %[mask]"
			     : [out] "=m"(out), [mask] "=r"(mask) : [self] "r"(self), [second] "m"(*(uint32_t(*)[16])(table + 16)), [one] "m"(table[1])
			     : "rax", "rcx", "rdi", "rsi", "r11", "memory", "cc", "xmm20", "k3");
		for (int j = 0; j < 16; j++) {
			sum += out[j];
			want += i * (16 + j) + (0xa5a5 >> j & 1) * i;
		}
		CHECK(mask == 0xa5a5 && sum == want);
	}
	printf("wide %d\n", signals);
}
