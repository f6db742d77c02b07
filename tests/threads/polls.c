// Who waits for several things in poll(2) and is woken by one sees all that has happened when it goes on: of a process that
// ends and has eight pipes open, all eight are closed. What another has taken away meanwhile is not there, and the time
// that was to be waited is no longer for that.
#define _GNU_SOURCE
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILDREN = 300, PIPES = 8, LIMIT_MS = 50 };

static int shared[2];

static int closed_at_once(int with_mask)
{
    struct pollfd ends[PIPES];
    int writers[PIPES], seen = 0;
    for (int i = 0; i < PIPES; i++) {
        int pair[2];
        if (pipe(pair))
            return -1;
        ends[i] = (struct pollfd){.fd = pair[0], .events = POLLIN};
        writers[i] = pair[1];
    }
    pid_t pid = fork();
    if (pid == 0)
        _exit(0);
    for (int i = 0; i < PIPES; i++)
        close(writers[i]);
    int ready = with_mask ? ppoll(ends, PIPES, NULL, NULL) : poll(ends, PIPES, -1);
    for (int i = 0; i < PIPES; i++) {
        seen += ends[i].revents == POLLHUP;
        close(ends[i].fd);
    }
    waitpid(pid, NULL, 0);
    return ready == PIPES && seen == PIPES;
}

static void *takes(void *nothing)
{
    struct pollfd end = {.fd = shared[0], .events = POLLIN};
    char byte;
    if (poll(&end, 1, -1) != 1 || read(shared[0], &byte, 1) != 1)
        _exit(2);
    return nothing;
}

static void *is_late(void *nothing)
{
    struct pollfd end = {.fd = shared[0], .events = POLLIN};
    struct timespec before, after;
    clock_gettime(CLOCK_MONOTONIC, &before);
    int ready = poll(&end, 1, LIMIT_MS);
    clock_gettime(CLOCK_MONOTONIC, &after);
    long us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
    fprintf(stderr, "%d after %ld ms\n", ready, us / 1000);
    return nothing;
}

int main(void)
{
    int at_once = 0;
    for (int i = 0; i < CHILDREN; i++)
        at_once += closed_at_once(i % 2);
    fprintf(stderr, "%d of %d\n", at_once, CHILDREN);
    pthread_t taker, late;
    if (pipe(shared))
        return 1;
    pthread_create(&taker, NULL, takes, NULL);
    usleep(1000);
    pthread_create(&late, NULL, is_late, NULL);
    usleep(20000);
    if (write(shared[1], "x", 1) != 1)
        return 1;
    pthread_join(taker, NULL);
    pthread_join(late, NULL);
    return at_once != CHILDREN;
}
