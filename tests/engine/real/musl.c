#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int by_length(const void *a, const void *b) {
    return (int)strlen(*(char *const *)a) - (int)strlen(*(char *const *)b);
}

int main(void) {
    char *words[] = {"three", "a", "fourteen", "of"};
    qsort(words, 4, sizeof *words, by_length);
    for (int i = 0; i < 4; i++)
        printf("%s %.3f\n", words[i], (double)strlen(words[i]) / 3);
    return 7;
}
