// In an empty root there is no /proc, no /etc and no library any more; new code, children and a failing exec work on.
// prints: empty root, child 9
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// needs: root
#include "check.h"
#include <fcntl.h>
#include <sys/wait.h>

int main(void)
{
	int status;
	char folder[] = "/tmp/chroot-XXXXXX";
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	CHECK(mkdtemp(folder) && chdir(folder) == 0 && rmdir(folder) == 0 && chroot(".") == 0);
	CHECK(access("/proc", F_OK) != 0 && access("/etc", F_OK) != 0);
	pid_t child = fork();
	if (child == 0) {
		execl("/bin/true", "true", (char *)0);
		CHECK(errno == ENOENT);
		write_return(code, 9);
		_exit(call(code));
	}
	CHECK(waitpid(child, &status, 0) == child && WIFEXITED(status));
	printf("empty root, child %d\n", WEXITSTATUS(status));
}
