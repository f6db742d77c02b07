// One memfd mapped twice: code is written through the RW view and executed through the RX one, rewritten 1000 times with
// no system call in between; then shared with a child that rewrites it.
// prints: rewritten 1000 by child 50
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <sys/wait.h>

int main(void)
{
	int fd = memfd_create("jit", 0), by_child = 0;
	CHECK(fd >= 0 && ftruncate(fd, 4096) == 0);
	unsigned char *data = mmap(0, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	unsigned char *code = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_SHARED, fd, 0);
	CHECK(data != MAP_FAILED && code != MAP_FAILED);
	for (uint32_t i = 0; i < 1000; i++) {
		write_return(data, i);
		CHECK(call(code) == i);
	}
	for (uint32_t i = 0; i < 50; i++) {
		pid_t child = fork();
		if (child == 0) {
			write_return(data, 5000 + i);
			_exit(call(code) != 5000 + i);
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		by_child += call(code) == 5000 + i;
	}
	printf("rewritten 1000 by child %d\n", by_child);
}
