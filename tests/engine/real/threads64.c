#include <pthread.h>
#include <stdio.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_barrier_t start;
static unsigned long total;

static void *work(void *argument) {
    unsigned long sum = 0;
    pthread_barrier_wait(&start);
    for (unsigned long i = 0; i < 100000; i++)
        sum += i * (unsigned long)argument % 7;
    for (int i = 0; i < 100; i++) {
        pthread_mutex_lock(&lock);
        total += sum;
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

int main(void) {
    pthread_t threads[64];
    pthread_barrier_init(&start, NULL, 64);
    for (long i = 0; i < 64; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i))
            return 1;
    for (int i = 0; i < 64; i++)
        pthread_join(threads[i], NULL);
    printf("%lu\n", total);
    return 0;
}
