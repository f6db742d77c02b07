// Asks the machine everything that differs between runs or machines, and prints the answers.
#define _GNU_SOURCE
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <pthread.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/times.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <sys/auxv.h>
#include <time.h>
#include <unistd.h>
#include <x86intrin.h>

static void cpu(void) {
    for (unsigned leaf = 0; leaf <= 0x20; leaf++)
        for (unsigned sub = 0; sub < 4; sub++) {
            unsigned a, b, c, d;
            __cpuid_count(leaf, sub, a, b, c, d);
            printf("cpuid %x.%u %08x %08x %08x %08x\n", leaf, sub, a, b, c, d);
        }
    for (unsigned leaf = 0x80000000; leaf <= 0x80000008; leaf++) {
        unsigned a, b, c, d;
        __cpuid(leaf, a, b, c, d);
        printf("cpuid %x %08x %08x %08x %08x\n", leaf, a, b, c, d);
    }
    printf("hwcap %lx %lx\n", getauxval(AT_HWCAP), getauxval(AT_HWCAP2));
    printf("policy %d, of its parent %d\n", sched_getscheduler(0), sched_getscheduler(getppid()));
    printf("cpus %ld %ld %d on %d\n", sysconf(_SC_NPROCESSORS_ONLN), sysconf(_SC_NPROCESSORS_CONF), get_nprocs(),
           sched_getcpu());
}

static void now(const char *what) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    printf("%s %ld.%09ld\n", what, t.tv_sec, t.tv_nsec);
}

static void clocks(void) {
    struct timespec t;
    for (int clock = 0; clock < 12; clock++)
        if (clock_gettime(clock, &t) == 0) printf("clock %d %ld.%09ld\n", clock, t.tv_sec, t.tv_nsec);
    struct timeval v;
    gettimeofday(&v, 0);
    printf("gettimeofday %ld.%06ld time %ld\n", v.tv_sec, v.tv_usec, time(0));
    unsigned cpu;
    unsigned long long first = __rdtsc(), second = __rdtscp(&cpu);
    printf("tsc %llu %llu %u\n", first, second, cpu);
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &t);
    printf("by number %ld.%09ld\n", t.tv_sec, t.tv_nsec);
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    struct tms tms;
    times(&tms);
    printf("used %ld.%06ld %ld\n", used.ru_utime.tv_sec, used.ru_utime.tv_usec, tms.tms_utime);
    for (int i = 0; i < 100000; i++) clock_gettime(CLOCK_MONOTONIC, &t);
    now("after many");
}

static void waits(void) {
    now("before");
    usleep(20000);
    now("after usleep");
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    t.tv_sec += 0;
    t.tv_nsec += 30000000;
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    clock_nanosleep(CLOCK_REALTIME, TIMER_ABSTIME, &t, 0);
    now("after a moment");
    poll(0, 0, 10);
    now("after poll");
    int fd = timerfd_create(CLOCK_MONOTONIC, 0);
    clock_gettime(CLOCK_MONOTONIC, &t);
    t.tv_nsec += 15000000;
    if (t.tv_nsec >= 1000000000) t.tv_sec++, t.tv_nsec -= 1000000000;
    struct itimerspec timer = {{0, 0}, t};
    timerfd_settime(fd, TFD_TIMER_ABSTIME, &timer, 0);
    unsigned long fired = 0;
    if (read(fd, &fired, 8) != 8) perror("read");
    struct timespec after;
    clock_gettime(CLOCK_MONOTONIC, &after);
    printf("timer %lu, due: %d\n", fired, after.tv_sec > t.tv_sec || after.tv_nsec >= t.tv_nsec);
}

static void random_bytes(void) {
    unsigned long a, b = 0;
    unsigned short c;
    unsigned char ok;
    __asm__ volatile("rdrand %0; setc %1" : "=a"(a), "=r"(ok) : : "cc");
    printf("rdrand %lx %d\n", a, ok);
    __asm__ volatile("rdseed %0; setc %1" : "=r"(c), "=r"(ok) : : "cc");
    printf("rdseed %x %d\n", c, ok);
    if (getrandom(&b, 8, 0) != 8) perror("getrandom");
    printf("getrandom %lx\n", b);
    FILE *file = fopen("/dev/urandom", "r");
    if (!file || fread(&b, 8, 1, file) != 1) perror("/dev/urandom");
    printf("urandom %lx\n", b);
}

static void host(void) {
    struct utsname u;
    uname(&u);
    printf("uname %s %s %s %s\n", u.sysname, u.nodename, u.release, u.version);
    struct sysinfo s;
    sysinfo(&s);
    printf("sysinfo %lu %lu up %ld, %d processes\n", s.totalram, s.freeram, s.uptime, s.procs);
    static const char *files[] = {"/proc/cpuinfo", "/proc/meminfo", "/proc/stat", "/proc/loadavg", "/proc/uptime",
                                  "/sys/devices/system/cpu/online", "/proc/self/mountinfo"};
    for (unsigned i = 0; i < sizeof files / sizeof *files; i++) {
        char line[256] = "";
        FILE *file = fopen(files[i], "r");
        while (file && fgets(line, sizeof line, file)) printf("%s: %s", files[i], line);
        if (file) fclose(file);
    }
    DIR *folder = opendir(".");
    for (struct dirent *entry; (entry = readdir(folder));) printf("entry %s\n", entry->d_name);
}

static void *thread_id(void *unused) {
    printf("thread %d\n", gettid());
    return unused;
}

static void ids(void) {
    printf("ids %d of %d, thread %d, group %d, session %d\n", getpid(), getppid(), gettid(), getpgrp(), getsid(0));
    pthread_t thread;
    pthread_create(&thread, 0, thread_id, 0);
    pthread_join(thread, 0);
    fflush(stdout);
    pid_t child = fork();
    if (child == 0) {
        printf("child %d of %d\n", getpid(), getppid());
        fflush(stdout);
        _exit(0);
    }
    printf("waited for %d\n", waitpid(child, 0, 0) == child ? child : -1);
    char link[32] = "";
    if (readlink("/proc/self", link, sizeof link - 1) < 0) perror("/proc/self");
    printf("/proc/self %s\n", link);
    FILE *file = fopen("/proc/1/cmdline", "r");
    if (file && fgets(link, sizeof link, file)) printf("/proc/1/cmdline: %s\n", link);
}

int main(void) {
    ids();
    cpu();
    clocks();
    waits();
    random_bytes();
    host();
    printf("bad pointer: %s\n", clock_gettime(CLOCK_MONOTONIC, (void *)8) ? strerror(errno) : "fine");
    printf("bad clock: %s\n", clock_gettime(77, &(struct timespec){0}) ? strerror(errno) : "fine");
}
