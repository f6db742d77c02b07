// A SIGSEGV handler throws; the unwinder goes through the signal frame to the faulting function's catch.
// prints: thrown 50
// build dynamic: g++ -O1 -fnon-call-exceptions
#include "check.h"
#include <stdexcept>

static void turn(int, siginfo_t *, void *)
{
	sigset_t segv;
	sigemptyset(&segv);
	sigaddset(&segv, SIGSEGV);
	sigprocmask(SIG_UNBLOCK, &segv, 0);
	throw std::runtime_error("fault");
}

__attribute__((noinline)) static int load(volatile int *from)
{
	return *from;
}

int main()
{
	int thrown = 0;
	on(SIGSEGV, turn, 0);
	for (int i = 0; i < 50; i++) {
		try {
			load((volatile int *)16);
		} catch (std::runtime_error &) {
			thrown++;
		}
	}
	std::printf("thrown %d\n", thrown);
}
