// Turns as often as the time stamp counter says; the branch is marked.
#include <x86intrin.h>
static volatile long sink;
__attribute__((noinline)) static void by_stamp(void) {
    for (unsigned left = __rdtsc() >> 7 & 1023; left; left--) // HERE
        sink++;
}
int main(void) { by_stamp(); }
