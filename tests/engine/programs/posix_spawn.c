// posix_spawn of itself and of /bin/sh, output through a pipe.
// prints: own 20 shell 5
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <spawn.h>
#include <sys/wait.h>

extern char **environ;

int main(int argc, char **argv)
{
	int status, own = 0, shell = 0, ends[2];
	char text[16];
	if (argc > 1)
		return 23;
	for (int i = 0; i < 20; i++) {
		pid_t child;
		char *again[] = {argv[0], "again", 0};
		CHECK(posix_spawn(&child, "/proc/self/exe", 0, 0, again, environ) == 0);
		CHECK(waitpid(child, &status, 0) == child && WEXITSTATUS(status) == 23);
		own++;
	}
	for (int i = 0; i < 5; i++) {
		pid_t child;
		posix_spawn_file_actions_t actions;
		char *echo[] = {"sh", "-c", "echo spawned", 0};
		CHECK(pipe(ends) == 0);
		posix_spawn_file_actions_init(&actions);
		posix_spawn_file_actions_adddup2(&actions, ends[1], 1);
		CHECK(posix_spawn(&child, "/bin/sh", &actions, 0, echo, environ) == 0);
		close(ends[1]);
		CHECK(read(ends[0], text, 16) == 8 && memcmp(text, "spawned\n", 8) == 0);
		close(ends[0]);
		CHECK(waitpid(child, &status, 0) == child && status == 0);
		posix_spawn_file_actions_destroy(&actions);
		shell++;
	}
	CHECK(posix_spawn(&(pid_t){0}, "/nonexistent", 0, 0, argv, environ) == ENOENT);
	printf("own %d shell %d\n", own, shell);
}
