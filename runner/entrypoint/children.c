#include "children.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/wait.h>

#include "clock.h"
#include "complain.h"
#include "hunt.h"

#define KILL_PATIENCE_MS 5000 /* a process in uninterruptible sleep dies when its disk answers, maybe never */
#define KILL_ROUND_MS 10      /* between two looks for descendants that were born during the last one */

void become_subreaper(void) {
    if (prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0) give_up("can't become a subreaper: %s", strerror(errno));
}

static uint64_t microseconds(struct timeval t) { return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec; }

static bool take_supervisor(struct children *c, pid_t pid, int status) {
    for (size_t i = 0; i < c->supervisor_count; i++) {
        if (c->supervisors[i] != pid) continue;
        c->supervisors[i] = c->supervisors[--c->supervisor_count];
        if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) c->supervisor_failed = true;
        return true;
    }
    return false;
}

bool reap(struct children *c) {
    struct rusage usage;
    int status;
    pid_t pid;
    while ((pid = wait4(-1, &status, WNOHANG, &usage)) > 0) {
        if (take_supervisor(c, pid, status)) continue;
        if (pid == c->command.pid) c->command = (struct child){pid, true, status};
        if (pid == c->probe.pid) c->probe = (struct child){pid, true, status};
        uint64_t peak = (uint64_t)usage.ru_maxrss * 1024;
        c->user_us += microseconds(usage.ru_utime);
        c->system_us += microseconds(usage.ru_stime);
        if (peak > c->peak_bytes) c->peak_bytes = peak;
    }
    return pid < 0 && errno == ECHILD;
}

/* Until a child ends, or a round is over. SIGCHLD alone: the others stay for who reads the signalfd. */
static void wait_a_round(void) {
    sigset_t child;
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    struct timespec round = {.tv_nsec = KILL_ROUND_MS * (long)NS_PER_MS};
    sigtimedwait(&child, NULL, &round);
}

size_t leave_none(struct children *c) {
    uint64_t patience = 0;
    for (;;) {
        if (reap(c)) return 0;
        size_t left = hunt(c->supervisors, c->supervisor_count);
        if (left == 0) return 0;
        if (patience == 0) patience = after_ms(mono_ns(), KILL_PATIENCE_MS);
        if (mono_ns() >= patience) return left;
        wait_a_round();
    }
}
