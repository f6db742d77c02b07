// Raw clone3: ten threads on stacks of their own, joined through the futex at their child_tid.
// prints: sum 55
// unpinned
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <linux/futex.h>
#include <linux/sched.h>
#include <sched.h>
#include <sys/syscall.h>

static int sum;
static int tids[10];
static unsigned char stacks[10][16384] __attribute__((aligned(16)));

static void add(int value)
{
	for (int i = 0; i < value; i++)
		__atomic_fetch_add(&sum, 1, __ATOMIC_SEQ_CST);
}

int main(void)
{
	for (int i = 0; i < 10; i++) {
		struct clone_args args = {
			.flags = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD |
				 CLONE_SYSVSEM | CLONE_CHILD_CLEARTID | CLONE_PARENT_SETTID,
			.child_tid = (uintptr_t)&tids[i],
			.parent_tid = (uintptr_t)&tids[i],
			.stack = (uintptr_t)stacks[i],
			.stack_size = sizeof(stacks[i]),
		};
		long result = SYS_clone3;
		asm volatile("syscall; test %%rax, %%rax; jnz 1f\n"
			     "mov %4, %%edi; call *%3\n"
			     "mov $60, %%eax; xor %%edi, %%edi; syscall\n" // exit
			     "1:"
			     : "+a"(result) : "D"(&args), "S"(sizeof(args)), "r"(add), "r"(i + 1)
			     : "rcx", "r11", "memory", "cc");
		CHECK(result > 0);
	}
	for (int i = 0; i < 10; i++)
		for (int tid; (tid = __atomic_load_n(&tids[i], __ATOMIC_SEQ_CST));)
			syscall(SYS_futex, &tids[i], FUTEX_WAIT, tid, 0, 0, 0);
	printf("sum %d\n", sum);
}
