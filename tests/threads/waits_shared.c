// A process that waits for another in a way that nobody can tell from work: it counts meanwhile.
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>
int main(void) {
    volatile int *done = mmap(0, sizeof(*done), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    volatile long rounds = 0;
    if (fork() == 0) {
        while (!*done)
            rounds++;
        _exit(0);
    }
    sched_yield();
    *done = 1;
    wait(0);
    return 0;
}
