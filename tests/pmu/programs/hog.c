// Takes every counter of CPU 0 for as long as the command runs that its arguments name: `hog CMD...`.
// Not counted itself. Exits with 3 when not even one counter could be taken.
#include <linux/perf_event.h>
#include <sys/syscall.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	struct perf_event_attr attr = {
		.type = PERF_TYPE_HARDWARE,
		.size = sizeof(attr),
		.config = PERF_COUNT_HW_INSTRUCTIONS,
		.pinned = 1,
	};
	int taken = 0;
	for (int i = 0; i < 16; i++)
		taken += syscall(SYS_perf_event_open, &attr, -1, 0, -1, 0) >= 0;
	if (argc < 2 || taken == 0)
		return 3;
	execv(argv[1], argv + 1);
	return 4;
}
