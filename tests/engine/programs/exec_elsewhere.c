// Programs are executed by another user, in an empty root without /proc, in a PID namespace with a /proc of its own, and by a
// root without rights. Each runs new code, forks, and finds no file open that it did not open.
// prints: another user: 65534, descriptor 3, code 7
// prints: empty root: 0, descriptor 3, code 7
// prints: PID namespace: 0, descriptor 3, code 7
// prints: no rights: 0, descriptor 3, code 7
// build static: gcc -O2 -static
// needs: root
#include "check.h"
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int self;

static void await(pid_t child)
{
	int status;
	CHECK(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static void again(const char *where)
{
	char *const arguments[] = {"again", (char *)where, 0}, *const environment[] = {0};
	fexecve(self, arguments, environment);
	CHECK(!"executed");
}

static void second(const char *where)
{
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	write_return(code, 7);
	int descriptor = dup(1);
	printf("%s: %d, descriptor %d, code %d\n", where, getuid(), descriptor, (int)call(code));
	fflush(stdout);
	pid_t child = fork();
	if (child == 0) {
		write_return(code + 64, 8);
		_exit(call(code + 64) != 8);
	}
	await(child);
	_exit(0);
}

static void another_user(void)
{
	CHECK(setgroups(0, 0) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	again("another user");
}

static void empty_root(void)
{
	char folder[] = "/tmp/elsewhere-XXXXXX";
	CHECK(mkdtemp(folder) && chdir(folder) == 0 && rmdir(folder) == 0 && chroot(".") == 0);
	again("empty root");
}

static void pid_namespace(void)
{
	CHECK(unshare(CLONE_NEWPID | CLONE_NEWNS) == 0);
	pid_t first = fork();
	if (first == 0) {
		CHECK(mount(0, "/", 0, MS_REC | MS_PRIVATE, 0) == 0 && mount("proc", "/proc", "proc", 0, 0) == 0);
		again("PID namespace");
	}
	await(first);
	_exit(0);
}

static void no_rights(void)
{
	struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {};
	CHECK(syscall(SYS_capset, &header, none) == 0);
	again("no rights");
}

int main(int count, char **arguments)
{
	static void (*const ways[])(void) = {another_user, empty_root, pid_namespace, no_rights};
	if (count > 1)
		second(arguments[1]);
	self = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	CHECK(self == 3);
	for (int way = 0; way < 4; way++) {
		pid_t child = fork();
		if (child == 0)
			ways[way]();
		await(child);
	}
}
