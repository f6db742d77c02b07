// Waits for another thread by looking again and again; the branch is marked.
#include <pthread.h>
#include <unistd.h>
static volatile int ready;
static volatile long sink;
static void *worker(void *arg) {
    for (int i = 0; i < 20; i++) {
        for (int j = 0; j < 100000; j++)
            sink++;
        usleep(1);
    }
    ready = 1;
    return arg;
}
__attribute__((noinline)) static void spin(void) {
    while (!ready) // HERE
        ;
}
int main(void) {
    pthread_t thread;
    if (pthread_create(&thread, 0, worker, 0))
        return 1;
    spin();
    pthread_join(thread, 0);
}
