// Turns as often as a random byte says; the branch is marked.
#include <fcntl.h>
#include <unistd.h>
static volatile long sink;
__attribute__((noinline)) static void draw(void) {
    unsigned short byte = 0;
    int fd = open("/dev/urandom", O_RDONLY);
    if (read(fd, &byte, sizeof byte) != sizeof byte)
        _exit(1);
    while (byte--) // HERE
        sink++;
}
int main(void) { draw(); }
