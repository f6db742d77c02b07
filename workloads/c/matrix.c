/* expect stdout="trace 32848 checksum 6228\n"
   What `gcc -O2 -c` compiles in the suite, and a program of its own: dense matrices, a hash table of words
   and a sort, with loops that an optimiser has work with. */
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { SIZE = 40, SLOTS = 256, KEYS = 150 };

static int64_t left[SIZE][SIZE], right[SIZE][SIZE], product[SIZE][SIZE];

static void fill(int64_t matrix[SIZE][SIZE], unsigned seed)
{
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            seed = seed * 1103515245u + 12345u;
            matrix[row][column] = (seed >> 16) % 10;
        }
}

static void multiply(void)
{
    for (int row = 0; row < SIZE; row++)
        for (int column = 0; column < SIZE; column++) {
            int64_t sum = 0;
            for (int at = 0; at < SIZE; at++)
                sum += left[row][at] * right[at][column];
            product[row][column] = sum;
        }
}

struct slot { char key[12]; unsigned count; };
static struct slot table[SLOTS];

static unsigned hash(const char *key)
{
    unsigned value = 2166136261u;
    for (; *key; key++)
        value = (value ^ (unsigned char)*key) * 16777619u;
    return value;
}

static struct slot *find(const char *key)
{
    unsigned at = hash(key) % SLOTS;
    while (table[at].key[0] && strcmp(table[at].key, key) != 0)
        at = (at + 1) % SLOTS;
    return &table[at];
}

static void count(const char *key)
{
    struct slot *slot = find(key);
    if (!slot->key[0])
        strcpy(slot->key, key);
    slot->count++;
}

static void sort(struct slot *slots, int size)
{
    for (int from = 1; from < size; from++) {
        struct slot moved = slots[from];
        int to = from;
        for (; to > 0 && strcmp(slots[to - 1].key, moved.key) > 0; to--)
            slots[to] = slots[to - 1];
        slots[to] = moved;
    }
}

static int64_t trace(void)
{
    int64_t sum = 0;
    for (int at = 0; at < SIZE; at++)
        sum += product[at][at];
    return sum;
}

int main(void)
{
    char key[12];
    unsigned checksum = 0;
    fill(left, 1);
    fill(right, 2);
    multiply();
    for (int turn = 0; turn < 2000; turn++) {
        snprintf(key, sizeof key, "key%d", turn * 7 % KEYS);
        count(key);
    }
    sort(table, SLOTS);
    for (int at = 0; at < SLOTS; at++)
        checksum = checksum * 31 % 9973 + table[at].count;
    printf("trace %lld checksum %u\n", (long long)trace(), checksum);
    return 0;
}
