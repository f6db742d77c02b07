// The legacy entries of the vsyscall page answer as the system calls do, and their return lands here.
// prints: gettimeofday 100 time 100 getcpu 100
// build dynamic: gcc -O2
// build static: gcc -O2 -static
// needs: vsyscall
#include "check.h"
#include <sys/time.h>
#include <time.h>

int main(void)
{
	int (*old_gettimeofday)(struct timeval *, void *) = (void *)0xffffffffff600000;
	time_t (*old_time)(time_t *) = (void *)0xffffffffff600400;
	int (*old_getcpu)(unsigned *, unsigned *, void *) = (void *)0xffffffffff600800;
	for (int i = 0; i < 100; i++) {
		struct timeval now;
		unsigned cpu = -1;
		time_t before = time(0), stored;
		CHECK(old_gettimeofday(&now, 0) == 0 && now.tv_sec - before >= 0 && now.tv_sec - before < 60);
		CHECK(old_time(&stored) == stored && stored - before >= 0 && stored - before < 60);
		CHECK(old_getcpu(&cpu, 0, 0) == 0 && cpu < 100000);
	}
	puts("gettimeofday 100 time 100 getcpu 100");
}
