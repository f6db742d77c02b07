// Two shared objects of the same shape are opened and closed in turn, 500 rounds; they land on the same addresses, so that an
// old translation of one would give the other's answer.
// prints: rounds 500 shared addresses yes
// library first.so: gcc -O1 -shared -fPIC -DVALUE=1111
// library second.so: gcc -O1 -shared -fPIC -DVALUE=2222
// build dynamic: gcc -O2
#ifdef VALUE
int value(int plus)
{
	return VALUE + plus;
}
#else
#include "check.h"
#include <dlfcn.h>

int main(void)
{
	void *at[2] = {0, 0};
	int shared = 0;
	for (int i = 0; i < 500; i++) {
		void *object = dlopen(i % 2 ? "./second.so" : "./first.so", RTLD_NOW);
		CHECK(object);
		int (*value)(int) = (int (*)(int))dlsym(object, "value");
		CHECK(value && value(i) == (i % 2 ? 2222 : 1111) + i);
		at[i % 2] = (void *)value;
		shared += at[0] == at[1];
		CHECK(dlclose(object) == 0);
	}
	printf("rounds 500 shared addresses %s\n", shared ? "yes" : "no");
}
#endif
