// The program sees the descriptors it was given and no other: 0, 1 and 2, and the next free number is 3.
// prints: next 3 open 4
// build dynamic: gcc -O2
// build static: gcc -O2 -static
#include "check.h"
#include <dirent.h>
#include <fcntl.h>

int main(void)
{
	int next = open("/dev/null", O_RDONLY), open_ones = 0;
	close(next);
	DIR *folder = opendir("/proc/self/fd");
	CHECK(folder);
	for (struct dirent *entry; (entry = readdir(folder));)
		open_ones += entry->d_name[0] != '.';
	printf("next %d open %d\n", next, open_ones);
}
