#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "complain.h"
#include "config.h"
#include "environment.h"
#include "guard.h"
#include "install.h"
#include "plan.h"
#include "run.h"

#define USAGE "usage: entrypoint run [--tee] [--plan PLAN] DIR NNN [NNN ...] | install DST | guard --lifeline FD [--grace MS] -- CMD ... | hold | version"

/* Descriptors 0 to 2 exist from here on: a pipe that got one of these numbers would become a step's stdin or stdout. */
static void fill_standard_descriptors(void) {
    int fd;
    do fd = open("/dev/null", O_RDWR);
    while (fd >= 0 && fd <= STDERR_FILENO);
    if (fd >= 0) close(fd);
}

/* What this process inherited is not for its steps. */
static void keep_inherited_descriptors(void) {
#ifdef SYS_close_range
    if (syscall(SYS_close_range, 3u, ~0u, 1u << 2 /* CLOSE_RANGE_CLOEXEC */) == 0) return;
#endif
    long most = sysconf(_SC_OPEN_MAX); /* Linux before 5.11 */
    for (int fd = 3; fd < (most > 0 && most < 65536 ? (int)most : 65536); fd++) fcntl(fd, F_SETFD, FD_CLOEXEC);
}

static int run_command(int argc, char **argv) {
    int steps[STEP_MAX];
    size_t count = 0;
    const char *directory = NULL, *plan = NULL;
    bool tee = false;
    for (int i = 0; i < argc; i++) {
        if (strcmp(argv[i], "--tee") == 0) {
            tee = true;
        } else if (strcmp(argv[i], "--plan") == 0 && i + 1 < argc) {
            plan = argv[++i];
        } else if (!directory) {
            directory = argv[i];
        } else {
            int step = step_number(argv[i]);
            if (step < 0 || count == STEP_MAX) give_up("not a step's number: %s; " USAGE, argv[i]);
            steps[count++] = step;
        }
    }
    if (count == 0) give_up(USAGE);
    keep_inherited_descriptors();
    enum history history = SOMEBODY_KNOWS;
    if (plan) environment_inherit();
    if (plan) history = plan_unpack(plan, directory, steps, count) ? ALONE : REBOOTED;
    return run_steps(directory, steps, count, tee, history);
}

static uint64_t number_of(const char *option, const char *text, uint64_t most) {
    char *end;
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    if (errno || *end || end == text || text[0] == '-' || number > most) give_up("%s can't be %s", option, text);
    return number;
}

static int guard_command(int argc, char **argv) {
    int lifeline = -1, i = 0;
    uint64_t grace_ms = 10000;
    for (; i + 1 < argc && strcmp(argv[i], "--") != 0; i += 2) {
        if (strcmp(argv[i], "--lifeline") == 0) lifeline = (int)number_of(argv[i], argv[i + 1], INT_MAX);
        else if (strcmp(argv[i], "--grace") == 0) grace_ms = number_of(argv[i], argv[i + 1], UINT64_MAX);
        else give_up("unknown option %s; " USAGE, argv[i]);
    }
    if (lifeline < 0 || i + 1 >= argc || strcmp(argv[i], "--") != 0) give_up(USAGE);
    return guard(lifeline, grace_ms, argv + i + 1);
}

/* Process 1 of a container that only holds namespaces for others. */
static int hold(void) {
    sigset_t end;
    int number;
    sigemptyset(&end);
    sigaddset(&end, SIGTERM);
    sigprocmask(SIG_BLOCK, &end, NULL);
    while (sigwait(&end, &number)) continue;
    return 0;
}

int main(int argc, char **argv) {
    const char *command = argc > 1 ? argv[1] : "";
    fill_standard_descriptors();
    if (strcmp(command, "run") == 0) return run_command(argc - 2, argv + 2);
    if (strcmp(command, "guard") == 0) return guard_command(argc - 2, argv + 2);
    if (strcmp(command, "hold") == 0 && argc == 2) return hold();
    if (strcmp(command, "install") == 0 && argc == 3) {
        install(argv[2]);
        return 0;
    }
    if (strcmp(command, "version") == 0 && argc == 2) {
        static const char version[] = "overspill-entrypoint 1\n";
        return write(STDOUT_FILENO, version, sizeof version - 1) == sizeof version - 1 ? 0 : EXIT_CANNOT;
    }
    give_up(USAGE);
}
