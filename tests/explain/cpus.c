// Works once for every CPU; the branch is marked.
#define _GNU_SOURCE
#include <sched.h>
static volatile long sink;
__attribute__((noinline)) static void work(void) {
    cpu_set_t set;
    sched_getaffinity(0, sizeof set, &set);
    for (int left = CPU_COUNT(&set); left; left--) // HERE
        sink++;
}
int main(void) { work(); }
