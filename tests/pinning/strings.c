/* String work on buffers of the stack, where they lie as the initial stack pointer has them: the C
   library's functions and the compiler's loops take other paths, and other numbers of steps, as the
   alignment changes. The length of one environment variable moves its count by percents; pinned, it
   does not move at all. Prints a checksum. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

/* Goes through whole words once it has reached a boundary, as hand-written string code does. */
static __attribute__((noinline)) uint64_t checksum(const char *text, size_t length)
{
    const char *end = text + length;
    uint64_t sum = 0;
    while (text < end && (uintptr_t)text % 64 != 0)
        sum = sum * 31 + (unsigned char)*text++;
    while (end - text >= 8) {
        uint64_t word;
        memcpy(&word, text, 8);
        sum = (sum ^ word) * 0x9e3779b97f4a7c15u;
        text += 8;
    }
    while (text < end)
        sum = sum * 31 + (unsigned char)*text++;
    return sum;
}

static __attribute__((noinline)) uint64_t work(unsigned turn)
{
    char line[200], copy[200];
    memset(line, 'a' + turn % 26, sizeof line - 1);
    line[sizeof line - 1 - turn % 40] = 0;
    line[sizeof line - 1] = 0;
    strcpy(copy, line);
    return checksum(copy, strlen(copy)) & 1 ? strlen(copy) : (uint64_t)strcmp(copy, line) + 1;
}

int main(void)
{
    uint64_t sum = 0;
    for (unsigned turn = 0; turn < 20000; turn++)
        sum += work(turn);
    printf("%llu\n", (unsigned long long)(sum > 0));
    return 0;
}
