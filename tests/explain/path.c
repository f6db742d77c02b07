// Looks at every byte of its own name; the branch is marked.
static volatile long sink;
__attribute__((noinline)) static void measure(const char *name) {
    while (*name++) // HERE
        sink++;
}
int main(int count, char **arguments) { measure(arguments[count - 1]); }
