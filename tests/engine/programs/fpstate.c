// x87, SSE and AVX registers and their control words live on through fresh code, signals that clobber them, system calls and faults.
// prints: kept 100
// build dynamic: gcc -O2 -mavx
// build static: gcc -O2 -mavx -static
// needs: avx
#include "check.h"
#include <immintrin.h>

static volatile int signals;
static unsigned char *page;

static void clobber(int signal, siginfo_t *info, void *context)
{
	asm volatile("vpxor %%xmm0, %%xmm0, %%xmm0; vpxor %%xmm7, %%xmm7, %%xmm7; vzeroupper; fninit" : : : "xmm0", "xmm7");
	_mm_setcsr(0x1f80);
	if (signal == SIGSEGV)
		CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
	signals++;
}

int main(void)
{
	unsigned char *code = pages(4, PROT_READ | PROT_WRITE | PROT_EXEC);
	page = pages(1, PROT_READ);
	on(SIGUSR1, clobber, 0);
	on(SIGSEGV, clobber, 0);
	pid_t self = getpid();
	// Static: the assembly moves the stack pointer.
	static uint32_t in[8] = {1, 2, 3, 4, 5, 6, 7, 8}, low[8], high[8], csr, rounding = 0x7f80;
	static uint16_t control = 0x0f7f, word, status;
	static long double pi;
	for (int i = 0; i < 100; i++) {
		unsigned char *fresh = code + i * 100;
		write_return(fresh, i);
		in[0] = i;
		CHECK(mprotect(page, 4096, PROT_READ) == 0);
		asm volatile("lea -128(%%rsp), %%rsp\n"
			     "vmovdqu %[in], %%ymm0; vmovdqu %[in], %%ymm7; vpcmpeqd %%xmm3, %%xmm3, %%xmm3\n"
			     "ldmxcsr %[rounding]; fldcw %[control]; fldpi; fld1; fcompp; fldpi\n"
			     "call *%[fresh]\n"
			     "movb $1, (%[page])\n"
			     "mov $62, %%eax; mov %[self], %%edi; mov $10, %%esi; syscall\n" // kill(self, SIGUSR1)
			     "vmovdqu %%ymm0, %[low]; vmovdqu %%ymm7, %[high]\n"
			     "stmxcsr %[csr]; fnstcw %[word]; fnstsw %[status]; fstpt %[pi]; fninit\n"
			     "lea 128(%%rsp), %%rsp; vzeroupper"
			     : [low] "=m"(low), [high] "=m"(high), [csr] "=m"(csr), [word] "=m"(word),
			       [status] "=m"(status), [pi] "=m"(pi)
			     : [in] "m"(in), [rounding] "m"(rounding), [control] "m"(control), [fresh] "r"(fresh),
			       [self] "r"(self), [page] "r"(page)
			     : "rax", "rcx", "rdi", "rsi", "r11", "memory", "cc", "xmm0", "xmm3", "xmm7");
		_mm_setcsr(0x1f80);
		CHECK(memcmp(low, in, 32) == 0 && memcmp(high, in, 32) == 0);
		CHECK((csr & 0xffc0) == rounding && word == control);
		CHECK((status & 0x4700) == 0x0100); // C0: 1 < pi, after fcompp.
		CHECK(pi == 0xc.90fdaa22168c234p-2L); // Towards zero, as the control word says.
	}
	CHECK(signals == 200);
	puts("kept 100");
}
