// Turns as often as the name of the second file in a folder says, and makes that file anew, so that the next run finds the
// files in another order; the branch is marked.
#include <dirent.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>
static volatile long sink;
__attribute__((noinline)) static void look(DIR *folder, char *second) {
    struct dirent *entry;
    int number = 0;
    while ((entry = readdir(folder)))
        if (entry->d_name[0] != '.' && ++number == 2)
            strcpy(second, entry->d_name);
    for (int turns = second[0]; turns; turns--) // HERE
        sink++;
}
int main(int count, char **arguments) {
    char second[256] = "";
    if (chdir(arguments[count - 1]))
        return 1;
    look(opendir("."), second);
    unlink(second);
    fclose(fopen(second, "w"));
}
