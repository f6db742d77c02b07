// Timers of every kind fire while the program computes, sleeps, waits and looks at them.
#define _GNU_SOURCE
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

static volatile int fired, code, value;

static void handler(int signal, siginfo_t *info, void *context) {
    fired++;
    code = info->si_code;
    value = info->si_value.sival_int;
}

static void notified(union sigval with) {
    fired += with.sival_int;
}

static unsigned long compute_until(int times) {
    unsigned long rounds = 0;
    while (fired < times)
        rounds++;
    fired = 0;
    return rounds;
}

int main(void) {
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    int signals[] = {SIGALRM, SIGRTMIN, SIGPROF};
    for (int i = 0; i < 3; i++)
        sigaction(signals[i], &action, 0);

    alarm(1);
    unsigned long rounds = compute_until(1);
    printf("alarm after %lu rounds, code %d\n", rounds, code);

    struct itimerval interval = {{0, 5000}, {0, 5000}}, before;
    setitimer(ITIMER_REAL, &interval, 0);
    printf("ten intervals after %lu rounds\n", compute_until(10));
    struct itimerval none = {{0, 0}, {0, 0}};
    setitimer(ITIMER_REAL, &none, &before);
    printf("every %ld us, %ld were left\n", before.it_interval.tv_usec, before.it_value.tv_usec);
    interval.it_interval.tv_usec = 0;
    setitimer(ITIMER_PROF, &interval, 0);
    printf("of CPU time after %lu rounds\n", compute_until(1));

    timer_t timer;
    struct sigevent signal = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 42};
    struct itimerspec soon = {{0, 0}, {0, 20000000}};
    timer_create(CLOCK_MONOTONIC, &signal, &timer);
    timer_settime(timer, 0, &soon, 0);
    rounds = compute_until(1);
    printf("timer after %lu rounds, code %d, value %d\n", rounds, code, value);
    struct timespec moment, second = {1, 0}, left = {0, 0};
    clock_gettime(CLOCK_MONOTONIC, &moment);
    soon.it_value.tv_sec = moment.tv_sec + 1;
    soon.it_value.tv_nsec = moment.tv_nsec;
    timer_settime(timer, TIMER_ABSTIME, &soon, 0);
    second.tv_sec = 3;
    int slept = nanosleep(&second, &left);
    printf("sleep %d, %d, %ld.%09ld left\n", slept, errno == EINTR, left.tv_sec, left.tv_nsec);
    timer_delete(timer);
    fired = 0;

    struct sigevent thread = {.sigev_notify = SIGEV_THREAD, .sigev_notify_function = notified, .sigev_value.sival_int = 7};
    soon = (struct itimerspec){{0, 0}, {0, 1000000}};
    timer_create(CLOCK_REALTIME, &thread, &timer);
    timer_settime(timer, 0, &soon, 0);
    while (!fired)
        usleep(100);
    printf("thread %d\n", fired);
    timer_delete(timer);

    int file = timerfd_create(CLOCK_MONOTONIC, 0);
    struct itimerspec often = {{0, 3000000}, {0, 3000000}}, now;
    uint64_t times;
    timerfd_settime(file, 0, &often, 0);
    if (read(file, &times, sizeof(times)) < 0)
        return 1;
    printf("file %lu\n", times);
    for (volatile long rounds = 0; rounds < 20000000; rounds++)
        ;
    if (read(file, &times, sizeof(times)) < 0)
        return 1;
    struct pollfd ready = {file, POLLIN, 0};
    int polled = poll(&ready, 1, 1000);
    timerfd_gettime(file, &now);
    printf("file %lu, poll %d, %ld ns left of %ld\n", times, polled, now.it_value.tv_nsec, now.it_interval.tv_nsec);
    return 0;
}
