// Looks at every byte of its environment; the branch is marked.
extern char **environ;
static volatile long sink;
__attribute__((noinline)) static void measure(void) {
    for (char **variable = environ; *variable; variable++)
        for (char *at = *variable; *at; at++) // HERE
            sink++;
}
int main(void) { measure(); }
