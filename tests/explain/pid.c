// Its count follows from its process id; the branch is marked.
#include <unistd.h>
static volatile long sink;
__attribute__((noinline)) static void by_pid(void) {
    int left = getpid() % 61;
    while (left--) // HERE
        sink++;
}
int main(void) { by_pid(); }
