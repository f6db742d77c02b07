// A process forks and ends at once, before its child has run: the child has everything it had, and goes on.
// prints: heirs 100
// build default: gcc -O2
#include "check.h"
#include <sys/wait.h>

int main(void)
{
	int told[2], heirs = 0;
	char byte;
	CHECK(pipe(told) == 0);
	for (int i = 0; i < 100; i++) {
		pid_t child = fork();
		CHECK(child >= 0);
		if (child == 0) {
			pid_t heir = fork();
			if (heir)
				_exit(heir < 0);
			// Code of its own: its parent, had it gone on, would have had the same.
			unsigned char *code = pages(1, PROT_READ | PROT_WRITE);
			write_return(code, i);
			CHECK(mprotect(code, 4096, PROT_READ | PROT_EXEC) == 0);
			_exit(!(call(code) == (uint32_t)i && write(told[1], "h", 1) == 1));
		}
		int status;
		CHECK(waitpid(child, &status, 0) == child && status == 0);
	}
	close(told[1]);
	while (read(told[0], &byte, 1) == 1)
		heirs++;
	printf("heirs %d\n", heirs);
}
