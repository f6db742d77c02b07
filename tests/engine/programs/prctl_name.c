// The name of a process is what it sets; before that, it is its file's.
// prints: before prctl_name after renamed
// build dynamic: gcc -O2
#include "check.h"
#include <sys/prctl.h>

static char *comm(char *into)
{
	FILE *file = fopen("/proc/self/comm", "r");
	CHECK(file && fscanf(file, "%15s", into) == 1);
	fclose(file);
	return into;
}

int main(void)
{
	char before[16], after[16], told[16];
	comm(before);
	CHECK(prctl(PR_SET_NAME, "renamed") == 0 && prctl(PR_GET_NAME, told) == 0);
	CHECK(strcmp(told, comm(after)) == 0);
	printf("before %s after %s\n", before, after);
}
