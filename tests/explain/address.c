// A table with chains, its keys addresses on the heap; the branch is marked.
#include <stdint.h>
#include <stdlib.h>
static volatile long sink;
__attribute__((noinline)) static void hash_pointer(void *key) {
    for (uintptr_t bucket = ((uintptr_t)key >> 12) % 997; bucket; bucket--) // HERE
        sink++;
}
int main(void) { hash_pointer(malloc(100)); }
