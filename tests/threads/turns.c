// Threads that wait for each other in many ways, and say in which order they went on. Built without optimisation of the waiting.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 60 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static char order[1 << 14];
static int length;

static void note(char who) {
    pthread_mutex_lock(&lock);
    if (length < (int)sizeof order - 1) order[length++] = who;
    pthread_mutex_unlock(&lock);
}

static void with_threads(void *(*body)(void *)) {
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, body, (void *)i);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
}

static void say(const char *name) {
    printf("%s %s\n", name, order);
    memset(order, 0, sizeof order);
    length = 0;
}

// A lock that all want.
static void *contend(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        note('a' + (long)me);
        if (i % 7 == (long)me) sched_yield();
    }
    return 0;
}

// Each waits for its turn by looking: at memory alone, with pause, with a lock prefix, in a function of its own.
static atomic_int turn;
static int is_mine(int me) { return atomic_load(&turn) % THREADS == me; }
static void *look(void *me) {
    for (int i = 0; i < ROUNDS; i++) {
        if (i % 3 == 0) while (atomic_load_explicit(&turn, memory_order_relaxed) % THREADS != (long)me);
        if (i % 3 == 1) while (!is_mine((long)me)) __builtin_ia32_pause();
        if (i % 3 == 2) while (atomic_fetch_add(&turn, 0) % THREADS != (long)me);
        note('a' + (long)me);
        atomic_fetch_add(&turn, 1);
    }
    return 0;
}

// Some sleep, and the order is that of their times.
static void *sleeps(void *me) {
    struct timespec time = {0, (THREADS - (long)me) * 3000000};
    for (int i = 0; i < 5; i++) {
        nanosleep(&time, 0);
        note('a' + (long)me);
    }
    return 0;
}

// A time limit passes, and another does not.
static void *timed(void *me) {
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += ((long)me + 1) * 2000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    pthread_mutex_lock(&lock);
    int error = pthread_cond_timedwait(&changed, &lock, &until);
    if (length < (int)sizeof order - 1) order[length++] = error == ETIMEDOUT ? 'A' + (long)me : 'a' + (long)me;
    pthread_mutex_unlock(&lock);
    if (me == 0) pthread_cond_signal(&changed);
    struct pollfd none = {-1, POLLIN, 0};
    if (poll(&none, 1, 3 + (long)me) != 0) note('!');
    int epoll = epoll_create1(0);
    struct epoll_event event;
    if (epoll_wait(epoll, &event, 1, 2) != 0) note('!');
    close(epoll);
    note('0' + (long)me);
    return 0;
}

// Bytes through pipes, round and round.
static int pipes[THREADS][2];
static void *passes(void *me) {
    char byte;
    for (int i = 0; i < ROUNDS; i++) {
        if (read(pipes[(long)me][0], &byte, 1) != 1) return 0;
        note(byte);
        if (write(pipes[((long)me + 1) % THREADS][1], &byte, 1) != 1) return 0;
    }
    return 0;
}

// Signals to threads that wait.
static sem_t ready;
static void caught(int signal) { (void)signal; }
static void *waits_for_signal(void *me) {
    sem_post(&ready);
    struct timespec time = {60, 0};
    int error = nanosleep(&time, 0) ? errno : 0;
    note(error == EINTR ? 'a' + (long)me : '!');
    return 0;
}

// A child ends while a thread reads: the call that was interrupted is made again.
static void *reads(void *pipe) {
    char byte = '!';
    if (read(*(int *)pipe, &byte, 1) != 1) byte = '?';
    note(byte);
    return 0;
}

static void *for_ever(void *me) {
    if (me) for (;;) pause();
    for (;;) sched_yield();
}

int main(int argc, char **argv) {
    with_threads(contend);
    say("contend");
    with_threads(look);
    say("look");
    with_threads(sleeps);
    say("sleep");
    with_threads(timed);
    say("timed");

    for (int i = 0; i < THREADS; i++) if (pipe(pipes[i])) return 1;
    if (write(pipes[0][1], "x", 1) != 1 || write(pipes[2][1], "y", 1) != 1) return 1;
    with_threads(passes);
    say("pass");

    sem_init(&ready, 0, 0);
    struct sigaction action = {.sa_handler = caught};
    sigaction(SIGUSR1, &action, 0);
    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, waits_for_signal, (void *)i);
    for (int i = 0; i < THREADS; i++) sem_wait(&ready);
    struct timespec moment = {0, 1000000};
    nanosleep(&moment, 0);
    for (int i = THREADS - 1; i >= 0; i--) pthread_kill(threads[i], SIGUSR1);
    for (int i = 0; i < THREADS; i++) pthread_join(threads[i], 0);
    say("signal");

    int channel[2];
    if (pipe(channel)) return 1;
    pthread_t reader;
    pthread_create(&reader, 0, reads, &channel[0]);
    pid_t child = fork();
    if (child == 0) _exit(7);
    int status;
    waitpid(child, &status, 0);
    note('0' + WEXITSTATUS(status));
    if (write(channel[1], "z", 1) != 1) return 1;
    pthread_join(reader, 0);
    say("child");

    fflush(stdout);
    for (long i = 0; i < THREADS; i++) pthread_create(&threads[i], 0, for_ever, (void *)i);
    nanosleep(&moment, 0);
    if (argc > 1) execl("/bin/echo", "echo", argv[1], (char *)0);
    return 3;
}
