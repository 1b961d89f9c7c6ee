#include "record.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"
#include "files.h"

#define STARTED_BYTES 160

static void must_write(const char *path, const char *text, enum durability durability) {
    if (!write_whole(path, text, strlen(text), durability)) give_up("can't write %s: %s", path, strerror(errno));
}

static void reserve_or_complain(const char *path, size_t length) {
    if (!exists(path) && !reserve(path, length)) complain("no disk space for %s: %s", path, strerror(errno));
}

static const char *post_path(char *path, int next) {
    if (next == NEXT_FINISH) snprintf(path, PATH_MAX_BYTES, "finish");
    else snprintf(path, PATH_MAX_BYTES, "go/%03d", next);
    return path;
}

void record_reserve(int step, const struct config *config) {
    char path[PATH_MAX_BYTES];
    if (exists(step_path(path, step, "exit"))) return;
    reserve_or_complain(path, RESERVE_MAX_BYTES);
    reserve_or_complain(step_path(path, step, "started"), STARTED_BYTES);
    if (config->mode == BACKGROUND) reserve_or_complain(step_path(path, step, "ready"), WORD_BYTES);
    reserve_or_complain(post_path(path, config->next), WORD_BYTES);
}

/* Field 22 of /proc/self/stat; 0 when there is no /proc. */
static uint64_t own_start_ticks(void) {
    char text[1024];
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    const char *at = strrchr(text, ')'); /* the end of field 2, which may hold spaces */
    for (int field = 2; at && field < 22; field++) at = strchr(at + 1, ' ');
    return at ? strtoull(at + 1, NULL, 10) : 0;
}

bool record_started(int step, uint64_t try) {
    char path[PATH_MAX_BYTES], text[STARTED_BYTES];
    int length = snprintf(text, sizeof text, "pid %d\npid_start_ticks %" PRIu64 "\ntry %" PRIu64 "\nunix_ns %" PRIu64 "\n",
                          (int)getpid(), own_start_ticks(), try, wall_ns());
    return write_whole(step_path(path, step, "started"), text, (size_t)length, QUICK);
}

void record_ready(int step) {
    char path[PATH_MAX_BYTES];
    must_write(step_path(path, step, "ready"), "ok\n", QUICK);
}

/* The length of the well-formed UTF-8 character at `c`, 0 when there is none. */
static size_t utf8_length(const unsigned char *c) {
    size_t length = c[0] >= 0xc2 && c[0] < 0xe0 ? 2 : c[0] >= 0xe0 && c[0] < 0xf0 ? 3 : c[0] >= 0xf0 && c[0] < 0xf5 ? 4 : 0;
    for (size_t i = 1; i < length; i++)
        if ((c[i] & 0xc0) != 0x80) return 0;
    if ((c[0] == 0xe0 && c[1] < 0xa0) || (c[0] == 0xed && c[1] > 0x9f)) return 0; /* overlong, surrogates */
    if ((c[0] == 0xf0 && c[1] < 0x90) || (c[0] == 0xf4 && c[1] > 0x8f)) return 0; /* overlong, past U+10FFFF */
    return length;
}

/* A command's name may hold any byte; the exit file is lines of UTF-8. */
static void make_one_line(char *message) {
    for (unsigned char *c = (unsigned char *)message; *c;) {
        size_t length = *c < 0x80 ? 0 : utf8_length(c);
        if (length) {
            c += length;
            continue;
        }
        if (*c < ' ' || *c == 0x7f) *c = ' ';
        else if (*c >= 0x80) *c = '?';
        c++;
    }
}

struct text {
    char bytes[RESERVE_MAX_BYTES];
    size_t length;
};

__attribute__((format(printf, 2, 3)))
static void add(struct text *t, const char *format, ...) {
    va_list args;
    va_start(args, format);
    int n = vsnprintf(t->bytes + t->length, sizeof t->bytes - t->length, format, args);
    va_end(args);
    t->length += (size_t)n;
}

bool record_exit(int step, const struct config *config, const struct outcome *o) {
    /* What may fail may not therefore be taken for done when it was cancelled. */
    bool cancelled = strcmp(o->state, "cancelled") == 0 || strcmp(o->state, "skipped") == 0;
    bool failed = !o->went_well && (cancelled || !config->continue_on_error);
    struct text t = {0};
    add(&t, "state %s\n", o->state);
    if (o->has_code) add(&t, "code %d\n", o->code);
    if (o->signal) add(&t, "signal %d\n", o->signal);
    add(&t, "killed_for %s\nverdict %s\ntries %" PRIu64 "\n", o->killed_for, failed ? "failed" : "ok", o->tries);
    add(&t, "started_unix_ns %" PRIu64 "\nended_unix_ns %" PRIu64 "\nduration_ns %" PRIu64 "\n", o->started_wall,
        o->ended_wall, o->duration);
    add(&t, "cpu_user_us %" PRIu64 "\ncpu_system_us %" PRIu64 "\npeak_memory_bytes %" PRIu64 "\noom_kills %" PRIu64 "\n",
        o->usage.user_us, o->usage.system_us, o->usage.peak_bytes, o->usage.oom_kills);
    add(&t, "usage_from %s\nlog_bytes %" PRIu64 "\nlog_dropped_bytes %" PRIu64 "\n",
        o->usage.from_cgroup ? "cgroup" : "rusage", o->log_bytes, o->log_dropped);
    if (o->message[0]) {
        char line[sizeof o->message];
        snprintf(line, sizeof line, "%s", o->message);
        make_one_line(line);
        add(&t, "message %s\n", line);
    }
    char path[PATH_MAX_BYTES];
    must_write(step_path(path, step, "exit"), t.bytes, config->next == NEXT_FINISH ? DURABLE : QUICK);
    if (o->tries == 0) release(step_path(path, step, "started"));
    if (config->mode == BACKGROUND) release(step_path(path, step, "ready"));
    return failed;
}

void post(int next, const char *word) {
    char path[PATH_MAX_BYTES], there[WORD_BYTES], text[WORD_BYTES + 1];
    post_path(path, next);
    if (read_word(path, there, sizeof there)) {
        release(path);
        return;
    }
    snprintf(text, sizeof text, "%s\n", word);
    must_write(path, text, QUICK);
}

static void copy_word(const struct blob *file, const char *key, char *word) {
    size_t length;
    const char *value = value_of(file, key, &length);
    snprintf(word, WORD_BYTES, "%.*s", value ? (int)length : 0, value ? value : "");
}

bool read_exit(int step, char *verdict, char *killed_for) {
    char path[PATH_MAX_BYTES];
    struct blob file;
    if (!read_whole(step_path(path, step, "exit"), &file)) {
        if (errno == ENOENT) return false;
        give_up("can't read %s: %s", path, strerror(errno));
    }
    bool there = file.length > 0;
    copy_word(&file, "verdict", verdict);
    copy_word(&file, "killed_for", killed_for);
    free(file.data);
    return there;
}
