// A thread that computes, in loops and calls that nobody tells from work, until another has slept often enough.
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>
static volatile int slept;
static volatile int sleeps;
static void *sleeper(void *none) {
    struct timespec moment = {0, 10 * 1000 * 1000};
    while (slept < 5) {
        sleeps = 1;
        nanosleep(&moment, 0);
        slept++;
    }
    return none;
}
static unsigned fibonacci(unsigned n) {
    return n < 2 ? n : fibonacci(n - 1) + fibonacci(n - 2);
}
int main(void) {
    pthread_t thread;
    unsigned long rounds = 0, sum = 0;
    pthread_create(&thread, 0, sleeper, 0);
    while (!sleeps)
        sched_yield();
    while (slept < 5) {
        sum += fibonacci(rounds % 7);
        rounds++;
    }
    pthread_join(thread, 0);
    printf("%lu %lu\n", rounds, sum);
    return 0;
}
