/* Prints its initial stack pointer and the addresses of argv[0]'s text and of the variable PROBE's.
   Build: cc -O2 -nostartfiles is not needed; `__libc_stack_end` of the dynamic loader is that pointer. */
#include <stdio.h>
#include <stdlib.h>

extern void *__libc_stack_end;

int main(int argc, char **argv)
{
    (void)argc;
    printf("%p %p %p\n", __libc_stack_end, (void *)argv[0], (void *)getenv("PROBE"));
    return 0;
}
