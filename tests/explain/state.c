// Turns as often as the runs before it, which it counts in the file it is given; the branch is marked.
#include <fcntl.h>
#include <unistd.h>
static volatile long sink;
__attribute__((noinline)) static void again(int file) {
    unsigned char runs = 0;
    if (read(file, &runs, 1) < 0)
        _exit(1);
    for (int left = runs; left; left--) // HERE
        sink++;
    runs++;
    if (pwrite(file, &runs, 1, 0) < 0)
        _exit(1);
}
int main(int count, char **arguments) { again(open(arguments[count - 1], O_RDWR | O_CREAT, 0600)); }
