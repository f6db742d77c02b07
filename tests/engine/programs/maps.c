// /proc/self/maps shows the program as it is natively: main in an r-xp mapping of its own file, libc's code r-xp, data rw-p,
// the stack rw-p, mappings ascending without overlap, no file but the program's and its libraries', nothing executable besides.
// prints: main r-xp libc r-xp data rw-p heap rw-p stack rw-p
// build dynamic: gcc -O2
// build no-pie: gcc -O2 -no-pie
#include "check.h"
#include <dlfcn.h>

int global = 1;

static const char *protection(const void *address, const char *file)
{
	static char found[5][5];
	static int next;
	char line[4096], rights[5], name[4096];
	unsigned long start, end, last = 0;
	FILE *maps = fopen("/proc/self/maps", "r");
	char *right = memcpy(found[next++ % 5], "none", 5);
	CHECK(maps);
	while (fgets(line, sizeof(line), maps)) {
		name[0] = 0;
		CHECK(sscanf(line, "%lx-%lx %4s %*x %*s %*u %4095s", &start, &end, rights, name) >= 3);
		CHECK(start >= last && end > start);
		last = end;
		int own = strstr(name, "/maps") != 0 || strstr(name, "/libc.so") != 0 || strstr(name, "/ld-linux") != 0;
		if (name[0] != 0 && name[0] != '[' && !own) {
			dprintf(2, "not ours: %s", line);
			_exit(1);
		}
		if (rights[2] == 'x')
			CHECK(own || strcmp(name, "[vdso]") == 0 || strcmp(name, "[vsyscall]") == 0);
		if ((unsigned long)address >= start && (unsigned long)address < end) {
			CHECK(strstr(name, file));
			memcpy(right, rights, 5);
		}
	}
	fclose(maps);
	return right;
}

int main(void)
{
	int local;
	const char *own = protection(main, "/maps"), *libc = protection(dlsym(RTLD_DEFAULT, "abort"), "/libc.so");
	const char *data = protection(&global, "/maps"), *heap = protection(malloc(100), "[heap]");
	printf("main %s libc %s data %s heap %s stack %s\n", own, libc, data, heap, protection(&local, "[stack]"));
}
