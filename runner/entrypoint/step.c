#include "step.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"
#include "environment.h"
#include "log.h"
#include "spawn.h"
#include "try.h"

#define DEFAULT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* A further try begins as the first did: with nothing written by the one before. */
static void empty_outputs(int step) {
    static const char *const names[] = {"env.out", "output.out", "summary.out"};
    char path[PATH_MAX_BYTES];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (truncate(step_path(path, step, names[i]), 0) != 0 && errno != ENOENT)
            complain("can't empty %s before a further try: %s", path, strerror(errno));
}

/* The kernel may kill one process of a step and let the shell above it go on, to any end: `cmd || true` even to a good one.
   The exit code counts as it is; the message always says what happened on the way. */
static void tell_memory(struct outcome *o, uint64_t kills) {
    char ended[320];
    if (strcmp(o->state, "exited") == 0 && !o->message[0]) snprintf(ended, sizeof ended, "it exited with %d", o->code);
    else if (strcmp(o->state, "signaled") == 0) snprintf(ended, sizeof ended, "it was ended by signal %d", o->signal);
    else snprintf(ended, sizeof ended, "%.319s", o->message);
    char limit[48] = "";
    if (o->usage.limit_bytes) snprintf(limit, sizeof limit, " of %" PRIu64 " MiB allowed", o->usage.limit_bytes >> 20);
    snprintf(o->message, sizeof o->message, "Out of memory: %" PRIu64 " of the step's processes killed, at its peak %" PRIu64 " MiB%s; %s",
             kills, o->usage.peak_bytes >> 20, limit, ended);
}

static void take_usage(struct step *s, struct outcome *o) {
    uint64_t kills_before = o->usage.oom_kills;
    o->usage = usage_read(s->config, &s->run->children, &s->before);
    if (o->usage.oom_kills <= kills_before) return;
    tell_memory(o, o->usage.oom_kills - kills_before);
    if (s->ending == NOT_ENDING && !o->went_well) o->killed_for = "memory";
}

/* What its env.out says counts as much as its exit code. */
static void take_env_out(const struct step *s, struct outcome *o) {
    char why[sizeof o->message];
    if (s->ending == ENDING_CANCEL) return;
    environment_check(s->number, why, sizeof why);
    if (!why[0]) return;
    o->went_well = false;
    snprintf(o->message, sizeof o->message, "%s", why);
}

static bool owes_a_try(const struct step *s, const struct outcome *o) {
    return !o->went_well && o->tries <= s->config->retry && !s->ready && strcmp(o->state, "not_started") != 0;
}

/* How the last try failed decides nothing while another one was owed: the cancel does. */
static void give_up_tries(const struct step *s, struct outcome *o) {
    if (strcmp(o->state, "cancelled") == 0) return;
    o->state = "cancelled";
    o->killed_for = s->run->cancel;
    snprintf(o->message, sizeof o->message, "Ended before its next try: %s", s->run->cancel);
}

static void finish_log(struct step *s, struct outcome *o) {
    log_tell_dropped(&s->log);
    o->log_bytes = s->log.size;
    o->log_dropped = s->log.dropped;
    if (s->log.failed && !o->message[0])
        snprintf(o->message, sizeof o->message, "The log is not whole: %s", strerror(s->log.failed));
    log_close(&s->log);
}

void step_run(struct run *run, int number, const struct config *config, struct outcome *o, void (*ready)(void *), void *context) {
    struct step s = {.run = run, .number = number, .config = config, .on_ready = ready, .context = context};
    if (run->alone) s.before = usage_of_container();
    struct strings argv;
    struct environment env;
    bool background = config->mode == BACKGROUND;
    strings_read(number, "argv", &argv);
    if (argv.count == 0) give_up("steps/%03d/argv is empty", number);
    struct strings probe = {0};
    bool has_probe = background && strings_read_if_any(number, "ready.argv", &probe) && probe.count > 0;
    environment_read(number, &env);
    const char *path = environment_get(&env, "PATH");
    s.argv = argv.items;
    s.probe = has_probe ? probe.items : NULL;
    s.environment = env.items;
    s.search_path = path ? path : DEFAULT_PATH;
    log_open(&s.log, number, config->log_limit_bytes, &run->tee);
    run->children.user_us = run->children.system_us = run->children.peak_bytes = 0;

    uint64_t began = mono_ns();
    *o = (struct outcome){.started_wall = wall_ns()};
    for (;;) {
        try_run(&s, o);
        take_usage(&s, o);
        take_env_out(&s, o);
        if (!owes_a_try(&s, o)) break;
        if (run->cancel[0]) {
            give_up_tries(&s, o);
            break;
        }
        empty_outputs(number);
    }
    o->duration = mono_ns() - began;
    o->ended_wall = wall_ns();

    if (!background) environment_seal(number);
    finish_log(&s, o);
    environment_free(&env);
    strings_free(&argv);
    strings_free(&probe);
}
