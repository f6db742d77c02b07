// What the C programs share: a check that names its line, a handler with its context, registers by name.
#ifndef CHECK_H
#define CHECK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#define CHECK(condition) \
	do { \
		if (!(condition)) { \
			dprintf(2, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
			_exit(1); \
		} \
	} while (0)

#define REGISTER(context, name) (((ucontext_t *)(context))->uc_mcontext.gregs[REG_##name])

typedef void handler(int, siginfo_t *, void *);

static inline void on(int signal, handler *action, int flags)
{
	struct sigaction how = {};
	how.sa_flags = SA_SIGINFO | flags;
	how.sa_sigaction = action;
	CHECK(sigaction(signal, &how, 0) == 0);
}

static inline unsigned char *pages(int count, int protection)
{
	void *at = mmap(0, count * 4096L, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(at != MAP_FAILED);
	return (unsigned char *)at;
}

// `mov $value, %eax; ret`: six bytes.
static inline void write_return(unsigned char *code, uint32_t value)
{
	code[0] = 0xb8;
	memcpy(code + 1, &value, 4);
	code[5] = 0xc3;
}

static inline uint32_t call(void *code)
{
	return ((uint32_t(*)(void))code)();
}

// A loop whose result only comes out when nothing in it is lost or done twice.
__attribute__((noinline, unused)) static uint64_t churn(int rounds)
{
	uint64_t value = 1;
	for (int i = 0; i < rounds; i++)
		value = (value ^ i) * 6364136223846793005u + (value & 1 ? value >> 33 : value << 7);
	return value;
}
#endif
