#include "run.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"
#include "crash.h"
#include "share.h"
#include "step.h"

#define CLAIM_TRIES 50
#define CLAIM_PAUSE_MS 20
#define TERMINATION_LOG "/dev/termination-log"

static struct run run; /* one a process; the last duty has to find it */

/* Whoever of the attempt's entrypoints is first tells the others, and step-ctl, by the word. */
static void end_fenced(struct run *r) {
    static const char word[] = "fenced\n";
    snprintf(r->cancel, sizeof r->cancel, "fenced");
    if (!write_once("cancel", word, sizeof word - 1) && errno != EEXIST)
        complain("can't write cancel: %s", strerror(errno)); /* each of us ends its own steps all the same */
}

/* In a pod the first contact is step-ctl's, and the first turn comes after it: until then there is nothing to end. */
static bool fence_stands(struct run *r) {
    char first[] = "go/001";
    return r->fence.up && (fence_last_contact(&r->fence) > 0 || exists(first));
}

static void look_at_fence(struct run *r) {
    r->fence.armed = true;
    uint64_t contact = fence_last_contact(&r->fence), now = boot_ns();
    uint64_t end_at = after_ms(contact, r->fence.end_ms), kill_at = after_ms(contact, r->fence.kill_ms);
    r->overdue |= now >= kill_at;
    if (now >= end_at && !r->cancel[0]) end_fenced(r);
    if (!r->overdue) loop_alarm_at(&r->loop, now < end_at ? end_at : kill_at);
}

void look(struct run *r) {
    if (r->loop.alarmed || (r->loop.changed && !r->fence.armed)) {
        r->loop.alarmed = false;
        if (fence_stands(r)) look_at_fence(r);
    }
    if (r->loop.changed) {
        r->loop.changed = false;
        char word[WORD_BYTES];
        if (!r->cancel[0]) read_word("cancel", r->cancel, sizeof r->cancel);
        if (!r->finished) r->finished = read_word("finish", word, sizeof word);
    }
    if (r->loop.ended_by && !r->cancel[0]) {
        snprintf(r->cancel, sizeof r->cancel, "cancel");
        for (size_t i = 0; i < r->children.supervisor_count; i++) kill(r->children.supervisors[i], SIGTERM);
    }
}

/* The words of `cancel` are a closed set; one of a later version still ends everything. */
static const char *cancel_reason(const struct run *r) {
    static const char *const known[] = {"timeout", "stale", "fenced"};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (strcmp(r->cancel, known[i]) == 0) return known[i];
    return "cancel";
}

static void wait_for_change(struct run *r) {
    loop_wait(&r->loop, -1, NEVER);
    if (r->loop.child_ended) {
        r->loop.child_ended = false;
        reap(&r->children);
    }
    if (r->children.supervisor_failed) give_up("the supervisor of a background step is gone");
}

enum turn { TURN_OK, TURN_FAILED, TURN_NEVER };

/* Waits until the step's turn has come, or can't come any more. */
static enum turn wait_for_turn(struct run *r, int step) {
    char path[PATH_MAX_BYTES], word[WORD_BYTES];
    snprintf(path, sizeof path, "go/%03d", step);
    for (;;) {
        /* Before go: who posts `finish` has posted every go before it. */
        look(r);
        if (r->cancel[0]) return TURN_NEVER;
        if (!read_word(path, word, sizeof word)) {
            if (r->finished) return TURN_NEVER;
        } else if (!exists("hold")) {
            if (strcmp(word, "ok") != 0 && strcmp(word, "failed") != 0) give_up("%s says %s", path, word);
            return word[0] == 'o' ? TURN_OK : TURN_FAILED;
        }
        wait_for_change(r);
    }
}

/* A config never changes, so each is read for its mode once. */
static enum { UNKNOWN, IS_FOREGROUND, IS_BACKGROUND } modes[STEP_MAX + 1];

static void remember_mode(int step, const struct config *config) {
    modes[step] = config->mode == BACKGROUND ? IS_BACKGROUND : IS_FOREGROUND;
}

/* Whether a background step below `step` has failed by now: unlike the others it may after it has posted on. */
static bool background_failed(int step) {
    char path[PATH_MAX_BYTES], verdict[WORD_BYTES], killed_for[WORD_BYTES];
    for (int below = 1; below < step; below++) {
        if (modes[below] == UNKNOWN) {
            if (!exists(step_path(path, below, "config"))) continue;
            struct config config;
            config_read(below, &config);
            remember_mode(below, &config);
            config_free(&config);
        }
        if (modes[below] == IS_BACKGROUND && read_exit(below, verdict, killed_for) && strcmp(verdict, "failed") == 0)
            return true;
    }
    return false;
}

struct turn_of {
    int step;
    const struct config *config;
    bool failed; /* something before it, or it itself, has */
};

static void post_on(void *context) {
    const struct turn_of *turn = context;
    bool failed = turn->failed || background_failed(turn->step);
    post(turn->config->next, failed ? "failed" : "ok");
}

/* After a cancel nothing follows but the word that nothing follows. */
static void post_cancelled(const struct config *config) {
    if (config->next == NEXT_FINISH) post(NEXT_FINISH, "cancelled");
}

static void skip(const struct turn_of *turn, const char *killed_for) {
    uint64_t now = wall_ns();
    bool by_condition = strcmp(killed_for, "none") == 0;
    struct outcome skipped = {
        .state = "skipped", .killed_for = killed_for, .went_well = by_condition, .started_wall = now, .ended_wall = now};
    record_exit(turn->step, turn->config, &skipped);
    if (by_condition) post_on((void *)turn);
    else post_cancelled(turn->config);
}

/* The step ended when this process, or one before it, ran it. What it would have posted may be missing. */
static void pass_over(struct run *r, int step, const struct config *config, const char *verdict, const char *killed_for) {
    char path[PATH_MAX_BYTES], word[WORD_BYTES];
    snprintf(path, sizeof path, "go/%03d", step);
    bool came_ok = read_word(path, word, sizeof word) && strcmp(word, "ok") == 0;
    struct turn_of turn = {step, config, !came_ok || strcmp(verdict, "ok") != 0};
    look(r);
    bool cancelled = r->cancel[0] || strcmp(killed_for, "cancel") == 0 || strcmp(killed_for, "stale") == 0 ||
                     strcmp(killed_for, "fenced") == 0;
    if (cancelled) post_cancelled(config);
    else post_on(&turn);
}

/* Holds the step against a second entrypoint that was started for it by mistake. Released by close, or our death.
   step-ctl takes the lock for an instant to see whether it is free, so it is asked for more than once. */
static int claim(int step) {
    char path[PATH_MAX_BYTES];
    const struct timespec pause = {.tv_nsec = CLAIM_PAUSE_MS * 1000000};
    int fd = open(step_path(path, step, ""), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) give_up("can't open %s: %s", path, strerror(errno));
    for (int tries = 1; flock(fd, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK; tries++) {
        if (tries == CLAIM_TRIES) give_up("step %03d is being run by another entrypoint", step);
        nanosleep(&pause, NULL);
    }
    return fd;
}

static bool has_exit(int step) {
    char verdict[WORD_BYTES], killed_for[WORD_BYTES];
    return read_exit(step, verdict, killed_for);
}

/* Whether it was begun by a process that is gone. The step is claimed. */
static bool is_unknown(int step) {
    char path[PATH_MAX_BYTES];
    return exists(step_path(path, step, "started")) && !has_exit(step);
}

static void refuse_if_unknown(int step) {
    if (is_unknown(step)) give_up("step %03d was started and nobody knows how it ended; it is not run again", step);
}

static bool is_lost(int step) {
    char path[PATH_MAX_BYTES];
    snprintf(path, sizeof path, "lost/%03d", step);
    return exists(path);
}

/* In a pod nobody stands beside a container that came back, so that it says itself what is lost, and ends the rest. */
static void note_lost(int step, const char *why) {
    static const char word[] = "lost\n";
    char path[PATH_MAX_BYTES], text[256];
    snprintf(path, sizeof path, "lost/%03d", step);
    snprintf(text, sizeof text, "%s; step %d %s\n", why, step,
             is_unknown(step) ? "was started and nobody knows how it ended" : "was not begun");
    if (!write_once(path, text, strlen(text)) && errno != EEXIST) give_up("can't write %s: %s", path, strerror(errno));
    if (!write_once("cancel", word, sizeof word - 1) && errno != EEXIST) give_up("can't write cancel: %s", strerror(errno));
}

static void look_back(const int *steps, size_t count, bool rebooted) {
    char why[64];
    for (size_t i = 0; i < count; i++) {
        int claimed = claim(steps[i]);
        if (rebooted) snprintf(why, sizeof why, "the machine was restarted");
        else snprintf(why, sizeof why, "the process meant to run step %d is gone", steps[i]);
        if (is_unknown(steps[i]) || (rebooted && !has_exit(steps[i]))) note_lost(steps[i], why);
        close(claimed);
    }
}

static bool applies(enum condition condition, bool failed) {
    return condition == IF_ALWAYS || (condition == IF_FAILURE) == failed;
}

/* A container that is killed leaves this word with its kubelet: which of its steps it was that it ran. */
static void tell_kubelet(int step) {
    char word[32];
    int fd = open(TERMINATION_LOG, O_WRONLY | O_TRUNC | O_CLOEXEC);
    if (fd < 0) return; /* a kubelet that asks for none */
    if (write(fd, word, (size_t)snprintf(word, sizeof word, "step %d\n", step)) < 0)
        complain("can't write %s: %s", TERMINATION_LOG, strerror(errno));
    close(fd);
}

static void take_turn(struct run *r, struct turn_of *turn) {
    struct outcome outcome;
    if (r->shared) tell_kubelet(turn->step);
    crash_point("entrypoint.after-turn-before-start", getpid());
    step_run(r, turn->step, turn->config, &outcome, post_on, turn);
    share(turn->config); /* before its end is known: whoever stores artifacts begins by that */
    crash_point("entrypoint.after-command-before-exit", getpid());
    if (strcmp(outcome.state, "cancelled") == 0) outcome.killed_for = cancel_reason(r);
    turn->failed |= record_exit(turn->step, turn->config, &outcome);
    if (turn->config->next == NEXT_FINISH) crash_point("entrypoint.after-last-exit-before-finish", getpid());
    else crash_point("entrypoint.after-exit-before-go", getpid());
    if (r->cancel[0]) post_cancelled(turn->config);
    else post_on(turn); /* again, for a background step that had been ready: it changes nothing */
}

static void do_step(struct run *r, int step, const struct config *config) {
    char verdict[WORD_BYTES], killed_for[WORD_BYTES];
    if (is_lost(step)) return; /* its `cancel` stands, and ends whoever waits for it */
    if (read_exit(step, verdict, killed_for)) {
        pass_over(r, step, config, verdict, killed_for);
        return;
    }
    enum turn when = wait_for_turn(r, step);
    int claimed = claim(step);
    struct turn_of turn = {step, config, when == TURN_FAILED};
    refuse_if_unknown(step);
    if (read_exit(step, verdict, killed_for)) pass_over(r, step, config, verdict, killed_for); /* another was faster */
    else if (when == TURN_NEVER) skip(&turn, cancel_reason(r));
    else if (!applies(config->condition, turn.failed)) skip(&turn, "none");
    else take_turn(r, &turn);
    close(claimed);
}

static void last_duty(void) {
    run.children.supervisor_count = 0; /* nobody is spared now */
    leave_none(&run.children);
}

/* A background step that isn't the last of this process gets a process, and thereby descendants, of its own. */
static void fork_supervisor(struct run *r, int step, const struct config *config) {
    pid_t parent = getpid(), pid = fork();
    if (pid < 0) give_up("can't fork for background step %03d: %s", step, strerror(errno));
    if (pid > 0) {
        r->children.supervisors[r->children.supervisor_count++] = pid;
        return;
    }
    prctl(PR_SET_PDEATHSIG, SIGTERM, 0, 0, 0);
    become_subreaper();
    memset(&r->children, 0, sizeof r->children);
    loop_close(&r->loop);
    loop_open(&r->loop);
    loop_watch(&r->loop);
    r->loop.alarmed = r->fence.up;
    if (getppid() != parent) r->loop.ended_by = SIGTERM; /* it died before it could be noticed */
    do_step(r, step, config);
    exit(0);
}

static void enter(const char *directory) {
    char version[WORD_BYTES];
    if (chdir(directory) != 0) give_up("can't enter %s: %s", directory, strerror(errno));
    if (!read_word("protocol", version, sizeof version)) give_up("%s/protocol is missing: no attempt directory", directory);
    if (strcmp(version, "1") != 0) give_up("%s has protocol %s, this entrypoint speaks 1", directory, version);
}

int run_steps(const char *directory, const int *steps, size_t count, bool tee, enum history history) {
    loop_open(&run.loop);
    enter(directory);
    run.alone = history != SOMEBODY_KNOWS;
    run.shared = run.alone && count > 1;
    if (history == SOMEBODY_KNOWS)
        for (size_t i = 0; i < count; i++) refuse_if_unknown(steps[i]);
    else
        look_back(steps, count, history == REBOOTED);
    if (mkdir("go", 0755) != 0 && errno != EEXIST) give_up("can't make %s/go: %s", directory, strerror(errno));
    become_subreaper();
    before_giving_up = last_duty;
    run.nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (run.nothing < 0) give_up("can't open /dev/null: %s", strerror(errno));
    if (tee) tee_open(&run.tee);
    loop_watch(&run.loop);
    fence_read(&run.fence);
    run.loop.alarmed = run.fence.up;
    for (size_t i = 0; i < count; i++) {
        struct config config;
        config_read(steps[i], &config);
        remember_mode(steps[i], &config);
        record_reserve(steps[i], &config);
        config_free(&config);
    }
    for (size_t i = 0; i < count; i++) {
        struct config config;
        config_read(steps[i], &config);
        if (config.mode == BACKGROUND && i + 1 < count) fork_supervisor(&run, steps[i], &config);
        else do_step(&run, steps[i], &config);
        config_free(&config);
    }
    while (run.children.supervisor_count > 0) {
        look(&run);
        wait_for_change(&run);
    }
    return run.children.supervisor_failed ? EXIT_CANNOT : 0;
}
