#include "try.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"
#include "crash.h"
#include "spawn.h"

#define DRAIN_MS 200     /* for a daemon that holds the pipe to say its last words */
#define PROBE_MS 200     /* from one start of the readiness command to the next */
#define GROUP_LOOK_MS 20 /* nothing tells when the last process of a group that isn't our child has ended */

struct start {
    int step;
    uint64_t try;
};

static bool write_started(void *context) {
    const struct start *start = context;
    bool written = record_started(start->step, start->try);
    crash_point("entrypoint.after-started-before-exec", getppid());
    return written;
}

static struct program program_of(const struct step *s, char **argv, int output) {
    return (struct program){
        .argv = argv,
        .environment = s->environment,
        .search_path = s->search_path,
        .cwd = s->config->cwd,
        .input = s->run->nothing,
        .output = output,
        .cgroups = s->config->cgroups,
        .cgroup_count = s->config->cgroup_count,
        .parent_death_signal = SIGKILL, /* what nobody supervises must not go on: its end would never be known */
    };
}

static bool start_command(struct step *s, struct outcome *o) {
    int pipe[2];
    if (pipe2(pipe, O_CLOEXEC) != 0) give_up("can't open a pipe: %s", strerror(errno));
    fcntl(pipe[0], F_SETFL, O_NONBLOCK); /* our end alone: the flag is of the end, not of the pipe */
    struct start start = {s->number, o->tries + 1};
    struct program program = program_of(s, s->argv, pipe[1]);
    struct spawned new;
    program.before_exec = write_started;
    program.context = &start;
    spawn(&program, &new);
    close(pipe[1]);
    s->pipe = pipe[0];
    s->run->children.command = (struct child){.pid = new.pid};
    if (new.pid) {
        crash_point("entrypoint.after-exec", getpid());
        o->tries++;
        return true;
    }
    close(s->pipe);
    o->state = "not_started";
    o->has_code = true;
    o->code = new.code;
    snprintf(o->message, sizeof o->message, "%s", new.message);
    return false;
}

static void begin_ending(struct step *s, enum ending why, uint64_t now) {
    s->ending = why;
    s->kill_at = s->run->overdue ? now : after_ms(now, s->config->grace_ms);
    kill(-s->run->children.command.pid, SIGTERM); /* fails only when the whole group is gone already */
}

static void end_if_due(struct step *s, uint64_t now) {
    if (s->ending != NOT_ENDING || s->run->children.command.ended) return;
    bool background = s->config->mode == BACKGROUND;
    if (s->run->cancel[0]) begin_ending(s, ENDING_CANCEL, now);
    else if (background && s->run->finished) begin_ending(s, ENDING_FINISHED, now);
    else if (now >= s->timeout_at) begin_ending(s, ENDING_TIMEOUT, now);
    else if (background && !s->ready && now >= s->ready_by) begin_ending(s, ENDING_NOT_READY, now);
}

static void become_ready(struct step *s) {
    s->ready = true;
    s->probe_at = NEVER;
    record_ready(s->number);
    s->on_ready(s->context);
}

static void start_probe(struct step *s, uint64_t now) {
    struct program program = program_of(s, s->probe, s->run->nothing);
    struct spawned new;
    spawn(&program, &new);
    s->run->children.probe = (struct child){.pid = new.pid};
    s->probe_at = after_ms(now, PROBE_MS);
    if (!new.pid) snprintf(s->probe_said, sizeof s->probe_said, "%.159s", new.message);
}

/* Runs the readiness command again and again until it exits 0. */
static void probe(struct step *s, uint64_t now) {
    struct child *probe = &s->run->children.probe;
    if (s->config->mode != BACKGROUND || s->ready || s->ending != NOT_ENDING || s->run->children.command.ended) return;
    if (!s->probe) {
        become_ready(s);
        return;
    }
    if (probe->pid && probe->ended) {
        int status = probe->status;
        *probe = (struct child){0};
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            become_ready(s);
            return;
        }
        if (WIFEXITED(status))
            snprintf(s->probe_said, sizeof s->probe_said, "the readiness command exits with %d", WEXITSTATUS(status));
        else
            snprintf(s->probe_said, sizeof s->probe_said, "the readiness command is ended by signal %d", WTERMSIG(status));
    }
    if (!probe->pid && now >= s->probe_at) start_probe(s, now);
}

static bool group_is_gone(const struct step *s) {
    return kill(-s->run->children.command.pid, 0) != 0 && errno == ESRCH;
}

/* The command has ended. When we asked for it, the rest of its group has the same grace to end as it had. */
static bool is_over(const struct step *s, uint64_t now) {
    if (now >= s->kill_at || (s->ending != NOT_ENDING && s->run->overdue)) return true;
    return s->run->children.command.ended && (s->ending == NOT_ENDING || group_is_gone(s));
}

static uint64_t next_deadline(const struct step *s, uint64_t now) {
    if (s->run->children.command.ended) {
        uint64_t look = after_ms(now, GROUP_LOOK_MS);
        return look < s->kill_at ? look : s->kill_at;
    }
    if (s->ending != NOT_ENDING) return s->kill_at;
    uint64_t next = s->timeout_at;
    if (s->config->mode == BACKGROUND && !s->ready) {
        if (s->ready_by < next) next = s->ready_by;
        if (!s->run->children.probe.pid && s->probe_at < next) next = s->probe_at;
    }
    return next;
}

/* Waits for anything, and takes in whatever came. */
static void wait_and_take(struct step *s, uint64_t deadline) {
    struct run *run = s->run;
    if (loop_wait(&run->loop, s->pipe, deadline) && !log_copy(&s->log, s->pipe)) {
        close(s->pipe);
        s->pipe = -1;
    }
    if (run->loop.child_ended) {
        run->loop.child_ended = false;
        reap(&run->children);
    }
    look(run);
}

static void supervise(struct step *s) {
    for (uint64_t now; now = mono_ns(), !is_over(s, now);) {
        end_if_due(s, now);
        probe(s, now);
        wait_and_take(s, next_deadline(s, now));
    }
}

static size_t clean_up(struct step *s) {
    uint64_t drained_by = after_ms(mono_ns(), DRAIN_MS);
    while (s->run->children.command.ended && s->pipe >= 0 && !s->run->overdue && mono_ns() < drained_by)
        wait_and_take(s, drained_by);
    size_t left = leave_none(&s->run->children);
    if (s->pipe >= 0) {
        log_copy(&s->log, s->pipe); /* what the killed had written still stands in the pipe */
        close(s->pipe);
        s->pipe = -1;
    }
    s->run->children.probe = (struct child){0};
    return left;
}

static void tell_status(const struct step *s, struct outcome *o) {
    const struct child *command = &s->run->children.command;
    o->has_code = true;
    if (!command->ended || WIFSIGNALED(command->status)) {
        o->signal = command->ended ? WTERMSIG(command->status) : SIGKILL; /* still there: it sleeps in the kernel */
        o->code = 128 + o->signal;
        o->state = "signaled";
        snprintf(o->message, sizeof o->message, "Ended by signal %d (%s)%s", o->signal, strsignal(o->signal),
                 o->signal == SIGKILL ? ", which the platform did not send: often for want of memory" : "");
    } else {
        o->code = WEXITSTATUS(command->status);
        o->state = "exited";
        o->went_well = o->code == 0;
    }
    if (s->config->mode == BACKGROUND && !s->ready) {
        o->went_well = false;
        snprintf(o->message, sizeof o->message, "Ended before it was ready");
    }
}

static void tell_ending(const struct step *s, struct outcome *o) {
    char *message = o->message;
    size_t size = sizeof o->message;
    switch (s->ending) {
    case NOT_ENDING: return;
    case ENDING_TIMEOUT:
        o->state = "timed_out";
        o->killed_for = "timeout";
        snprintf(message, size, "Not done within its timeout of %" PRIu64 " ms", s->config->timeout_ms);
        break;
    case ENDING_NOT_READY:
        o->state = "timed_out";
        o->killed_for = "timeout";
        snprintf(message, size, "Not ready within %" PRIu64 " ms: %s", s->config->ready_timeout_ms,
                 s->probe_said[0] ? s->probe_said : "the readiness command did not end");
        break;
    case ENDING_CANCEL:
        o->state = "cancelled";
        o->killed_for = s->run->cancel;
        if (s->run->loop.ended_by) snprintf(message, size, "The entrypoint was ended by signal %d", s->run->loop.ended_by);
        else snprintf(message, size, "Ended while it ran: %s", s->run->cancel);
        break;
    case ENDING_FINISHED:
        o->state = "ended";
        o->killed_for = "end";
        message[0] = '\0';
    }
    o->went_well = s->ending == ENDING_FINISHED;
}

void try_run(struct step *s, struct outcome *o) {
    uint64_t now = mono_ns(), tries = o->tries;
    struct outcome fresh = {.killed_for = "none", .tries = tries, .started_wall = o->started_wall, .usage = o->usage};
    *o = fresh;
    s->ending = NOT_ENDING;
    s->ready = false;
    s->kill_at = NEVER;
    s->probe_at = now;
    s->probe_said[0] = '\0';
    s->timeout_at = s->config->timeout_ms ? after_ms(now, s->config->timeout_ms) : NEVER;
    s->ready_by = after_ms(now, s->config->ready_timeout_ms);
    if (!start_command(s, o)) return;
    log_reserve(&s->log); /* now that the command runs, it costs it no time */
    supervise(s);
    size_t left = clean_up(s);
    tell_status(s, o);
    tell_ending(s, o);
    if (left) snprintf(o->message, sizeof o->message, "%zu processes of the step could not be killed", left);
}
