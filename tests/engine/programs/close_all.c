// All descriptors are closed, the numbers given out anew from 0, and fresh code still runs; the exit code is all that is left.
// exits: 42
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <fcntl.h>
#include <sys/syscall.h>
#include <sys/wait.h>

int main(void)
{
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	int status;
	CHECK(syscall(SYS_close_range, 0u, ~0u, 0u) == 0);
	if (open("/dev/null", O_RDWR) != 0 || dup(0) != 1 || dup(0) != 2 || dup(0) != 3)
		_exit(1);
	for (int i = 0; i < 100; i++) {
		write_return(code + 16 * i, i);
		if (call(code + 16 * i) != (uint32_t)i)
			_exit(2);
	}
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	pid_t child = fork();
	if (child == 0) {
		write_return(code, 40);
		_exit(call(code));
	}
	if (waitpid(child, &status, 0) != child)
		_exit(3);
	_exit(WEXITSTATUS(status) + 2);
}
