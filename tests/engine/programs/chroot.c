// In an empty root there is no /proc, no /etc and no library any more; new code, children, a failing exec and what is open from
// before work on.
// prints: empty root, child 9
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// needs: root
#include "check.h"
#include <fcntl.h>
#include <sys/wait.h>

// As bubblewrap does: through the folder, once its path leads nowhere.
static void read_from(int proc, const char *name, int bytes)
{
	char byte;
	int file = openat(proc, name, O_RDONLY);
	CHECK(file >= 0 && read(file, &byte, 1) == bytes && close(file) == 0);
}

int main(void)
{
	int status;
	char folder[] = "/tmp/chroot-XXXXXX";
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	int proc = open("/proc", O_PATH);
	CHECK(mkdtemp(folder) && chdir(folder) == 0 && rmdir(folder) == 0 && chroot(".") == 0);
	CHECK(access("/proc", F_OK) != 0 && access("/etc", F_OK) != 0);
	read_from(proc, "self/mountinfo", 0);
	read_from(proc, "self/maps", 1);
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
