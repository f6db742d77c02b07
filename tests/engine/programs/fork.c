// Twenty children, each with a grandchild; all compute, and their results come back through exit codes and a pipe.
// prints: children 20 sum 210 fresh 20
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// build musl: musl-gcc -O2 -static
#include "check.h"
#include <sys/wait.h>

int main(void)
{
	int ends[2], status, sum = 0, fresh = 0;
	uint64_t right = churn(500), value;
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	CHECK(pipe(ends) == 0);
	for (int i = 1; i <= 20; i++) {
		pid_t child = fork();
		if (child == 0) {
			pid_t grandchild = fork();
			if (grandchild == 0) {
				value = churn(500);
				_exit(write(ends[1], &value, sizeof(value)) != sizeof(value));
			}
			write_return(code, i); // Code of its own, at the address of everybody's.
			CHECK(waitpid(grandchild, &status, 0) == grandchild && status == 0);
			_exit(call(code));
		}
		write_return(code, 1000 + i);
		fresh += call(code) == 1000u + i;
		CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
		sum += WEXITSTATUS(status);
		CHECK(read(ends[0], &value, sizeof(value)) == sizeof(value) && value == right);
	}
	printf("children 20 sum %d fresh %d\n", sum, fresh);
}
