#include "guard.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "children.h"
#include "clock.h"
#include "complain.h"
#include "loop.h"
#include "spawn.h"

extern char **environ;

static struct children children;

/* True when nobody holds the other end any more. What the holder may write is of no interest. */
static bool is_cut(int lifeline) {
    char ignored[512];
    ssize_t n = read(lifeline, ignored, sizeof ignored);
    return n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR);
}

static void supervise(struct loop *loop, int lifeline, uint64_t grace_ms) {
    uint64_t kill_at = NEVER;
    bool cut = false;
    while (!children.command.ended && mono_ns() < kill_at) {
        if (loop_wait(loop, cut ? -1 : lifeline, kill_at) && is_cut(lifeline)) cut = true;
        if (loop->child_ended) {
            loop->child_ended = false;
            reap(&children);
        }
        if ((cut || loop->ended_by) && kill_at == NEVER) {
            kill_at = after_ms(mono_ns(), grace_ms);
            kill(children.command.pid, SIGTERM); /* fails only when it has ended already */
        }
    }
}

static void last_duty(void) { leave_none(&children); }

int guard(int lifeline, uint64_t grace_ms, char **argv) {
    struct loop loop;
    loop_open(&loop);
    if (fcntl(lifeline, F_SETFD, FD_CLOEXEC) != 0) give_up("--lifeline %d: %s", lifeline, strerror(errno));
    become_subreaper();
    before_giving_up = last_duty;
    const char *path = getenv("PATH");
    struct program program = {
        .argv = argv,
        .environment = environ,
        .search_path = path ? path : "/usr/local/bin:/usr/bin:/bin",
        .parent_death_signal = SIGTERM, /* the guard itself was killed: the command may still end in order */
    };
    struct spawned new;
    spawn(&program, &new);
    if (!new.pid) {
        complain("%s", new.message);
        return new.code;
    }
    children.command = (struct child){.pid = new.pid};
    supervise(&loop, lifeline, grace_ms);
    if (leave_none(&children)) complain("some processes could not be killed");
    if (!children.command.ended) return 128 + SIGKILL;
    int status = children.command.status;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}
