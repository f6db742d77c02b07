// Root becomes nobody for good, then runs new code, forks and takes signals as that user.
// prints: user 65534 group 65534 raised 10 child 65534
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// needs: root
#include "check.h"
#include <fcntl.h>
#include <grp.h>
#include <sys/wait.h>

static volatile int raised;

static void note(int signal, siginfo_t *info, void *context)
{
	raised++;
}

int main(void)
{
	int status;
	unsigned char *code = pages(1, PROT_READ | PROT_WRITE | PROT_EXEC);
	CHECK(setgroups(0, 0) == 0 && setgid(65534) == 0 && setuid(65534) == 0);
	CHECK(setuid(0) == -1 && errno == EPERM);
	CHECK(open("/etc/shadow", O_RDONLY) == -1 && errno == EACCES);
	on(SIGUSR1, note, 0);
	for (int i = 0; i < 10; i++) {
		write_return(code + 16 * i, i);
		CHECK(call(code + 16 * i) == (uint32_t)i);
		raise(SIGUSR1);
	}
	pid_t child = fork();
	if (child == 0)
		_exit(getuid() != 65534 || churn(100) != churn(100));
	CHECK(waitpid(child, &status, 0) == child && status == 0);
	printf("user %d group %d raised %d child 65534\n", getuid(), getgid(), raised);
}
