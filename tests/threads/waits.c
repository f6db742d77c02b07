// A thread that waits for another in a way that nobody can tell from work: it counts meanwhile.
#include <pthread.h>
#include <sched.h>
static volatile int done;
static volatile long rounds;
static void *waits(void *none) {
    while (!done)
        rounds++;
    return none;
}
int main(void) {
    pthread_t thread;
    pthread_create(&thread, 0, waits, 0);
    sched_yield();
    done = 1;
    pthread_join(thread, 0);
    return 0;
}
