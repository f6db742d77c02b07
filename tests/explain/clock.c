// Turns for a fixed time; the branch is marked.
#include <time.h>
static volatile long sink;
static long now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000L + t.tv_nsec;
}
__attribute__((noinline)) static void until_late(void) {
    long start = now();
    while (now() - start < 30000000) // HERE
        sink++;
}
int main(void) { until_late(); }
