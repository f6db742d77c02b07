// A process of several threads ends again and again: one thread of its parent waits for its end, another reads what it may
// write. Both are woken by it, the one a little before the other. Writes who came back first, each time.
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { TIMES = 40, THREADS = 6 };

static char order[2 * TIMES + 1];
static int came;

static void *sleeps(void *nothing)
{
    pause();
    return nothing;
}

static void *yields(void *nothing)
{
    for (;;)
        sched_yield();
    return nothing;
}

static void child(void)
{
    pthread_t thread;
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread, NULL, i % 2 ? sleeps : yields, NULL);
    usleep(1000);
    _exit(0);
}

static void *waits(void *pid)
{
    siginfo_t info;
    waitid(P_PID, *(pid_t *)pid, &info, WEXITED | WNOWAIT);
    order[__atomic_fetch_add(&came, 1, __ATOMIC_SEQ_CST)] = 'w';
    return NULL;
}

int main(void)
{
    for (int i = 0; i < TIMES; i++) {
        int ends[2];
        char byte;
        if (pipe(ends))
            return 1;
        pid_t pid = fork();
        if (pid == 0)
            child();
        close(ends[1]);
        pthread_t waiter;
        pthread_create(&waiter, NULL, waits, &pid);
        // So that the reader is the second to wait.
        usleep(100);
        if (read(ends[0], &byte, 1) != 0)
            return 1;
        order[__atomic_fetch_add(&came, 1, __ATOMIC_SEQ_CST)] = 'r';
        pthread_join(waiter, NULL);
        waitpid(pid, NULL, 0);
        close(ends[0]);
    }
    fprintf(stderr, "%s\n", order);
    return strlen(order) != 2 * TIMES;
}
