// C++ exceptions cross several frames and a shared object, run destructors, and are rethrown.
// prints: caught 200 destroyed 600 rethrown 200
// library thrower.so: g++ -O1 -shared -fPIC -DTHROWER
// build dynamic: g++ -O1 -Wl,-rpath,$ORIGIN -L. -l:thrower.so
// build static: g++ -O1 -static -DTHROWER -DMAIN
#include <cstdio>
#include <stdexcept>
#include <string>

#ifdef THROWER
int destroyed;
struct Guard {
	~Guard() { destroyed++; }
};

extern "C" __attribute__((noinline)) void callback(void (*call)(int), int value)
{
	Guard guard;
	call(value);
}

extern "C" __attribute__((noinline)) void throw_it(int value)
{
	Guard guard;
	if (value % 2)
		throw std::runtime_error(std::to_string(value));
	throw value;
}
#endif
#if !defined(THROWER) || defined(MAIN)
extern "C" void callback(void (*call)(int), int value);
extern "C" void throw_it(int value);
extern int destroyed;

static int rethrown;

static void through(int value)
{
	try {
		callback(throw_it, value);
	} catch (...) {
		rethrown++;
		throw;
	}
}

int main()
{
	int caught = 0;
	for (int i = 0; i < 200; i++) {
		try {
			callback(through, i);
		} catch (int value) {
			caught += value == i;
		} catch (std::runtime_error &error) {
			caught += error.what() == std::to_string(i);
		}
	}
	std::printf("caught %d destroyed %d rethrown %d\n", caught, destroyed, rethrown);
}
#endif
