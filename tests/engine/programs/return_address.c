// Return addresses are the program's own: __builtin_return_address, call/pop, backtrace(3) and dladdr(3) see its functions.
// prints: callee called by caller called by main
// build dynamic: gcc -O1 -rdynamic -fno-omit-frame-pointer -fno-optimize-sibling-calls
// build no-pie: gcc -O1 -rdynamic -fno-omit-frame-pointer -fno-optimize-sibling-calls -no-pie
#include "check.h"
#include <dlfcn.h>
#include <execinfo.h>

static const char *name(void *address)
{
	Dl_info info;
	CHECK(dladdr(address, &info) && info.dli_sname);
	return info.dli_sname;
}

__attribute__((noinline)) int callee(int print)
{
	void *frames[16], *here;
	int count = backtrace(frames, 16);
	asm("call 1f\n1: pop %0" : "=r"(here));
	CHECK(count >= 3 && strcmp(name(here), "callee") == 0);
	CHECK(frames[1] == __builtin_return_address(0));
	if (print)
		printf("%s called by %s called by %s\n", name(frames[0]), name(frames[1]), name(frames[2]));
	return count;
}

__attribute__((noinline)) int caller(int print)
{
	return callee(print) + 1;
}

int main(void)
{
	for (int i = 0; i < 100; i++)
		caller(i == 99);
}
