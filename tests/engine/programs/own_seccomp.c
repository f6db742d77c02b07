// The program allows itself a handful of system calls and is killed at any other; new code, faults and signals go on working.
// prints: filtered 100 refused 1
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static const int allowed[] = {SYS_write, SYS_exit_group, SYS_rt_sigreturn, SYS_mprotect, SYS_getpid, SYS_tgkill,
			      SYS_gettid, SYS_rt_sigprocmask, SYS_newfstatat, SYS_brk, SYS_mmap, SYS_getrandom};
static volatile int signals;
static unsigned char *page;

static void handle(int signal, siginfo_t *info, void *context)
{
	if (signal == SIGSEGV)
		CHECK(mprotect(page, 4096, PROT_READ | PROT_WRITE) == 0);
	signals++;
}

static void filter(void)
{
	struct sock_filter program[64];
	int length = 0, count = sizeof(allowed) / sizeof(*allowed);
	program[length++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < count; i++)
		program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], count - i + 2, 0);
	program[length++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 1, 0);
	program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS);
	program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ENOTTY);
	program[length++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog all = {length, program};
	CHECK(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0);
	CHECK(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &all) == 0);
}

int main(void)
{
	unsigned char *code = pages(2, PROT_READ | PROT_WRITE | PROT_EXEC);
	page = pages(1, PROT_READ);
	on(SIGUSR1, handle, 0);
	on(SIGSEGV, handle, 0);
	filter();
	for (int i = 0; i < 100; i++) {
		write_return(code + i * 64, i);
		CHECK(call(code + i * 64) == (uint32_t)i);
		raise(SIGUSR1);
		page[0] = i;
		CHECK(mprotect(page, 4096, PROT_READ) == 0);
	}
	CHECK(signals == 200);
	int refused = syscall(SYS_getppid) == -1 && errno == ENOTTY; // glibc's getppid looks for no error.
	printf("filtered 100 refused %d\n", refused);
}
