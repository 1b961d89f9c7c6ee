/* What the edge wrote about a step before the start: config, argv, ready.argv. */
#ifndef CONFIG_H
#define CONFIG_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "files.h"

#define STEP_MAX 999    /* numbers have three digits */
#define NEXT_FINISH 0   /* 000 is the platform's own log, so nothing posts on to it */
#define CGROUPS_MAX 16  /* v1 has a dozen controllers */
#define SHARES_MAX 16

enum mode { FOREGROUND, BACKGROUND };
enum condition { IF_SUCCESS, IF_FAILURE, IF_ALWAYS };

struct config {
    enum mode mode;
    enum condition condition;
    const char *cwd; /* "/" when the config names none */
    uint64_t timeout_ms, grace_ms, ready_timeout_ms, retry, log_limit_bytes;
    bool continue_on_error;
    int next; /* a step's number or NEXT_FINISH */
    const char *cgroups[CGROUPS_MAX];
    size_t cgroup_count;
    const char *shares[SHARES_MAX];
    size_t share_count;
    struct blob text; /* what the strings point into */
};

/* Strings one after the other, NUL-terminated in the file, NULL-terminated here. */
struct strings {
    char **items;
    size_t count;
    struct blob text;
};

/* Both give up when the file is missing or is not what the protocol says. */
void config_read(int step, struct config *out);
void strings_read(int step, const char *name, struct strings *out);

/* As strings_read, but false when there is no such file. */
bool strings_read_if_any(int step, const char *name, struct strings *out);

void config_free(struct config *config);
void strings_free(struct strings *strings);

/* Writes `steps/NNN/name` to `path`, of PATH_MAX_BYTES, and returns it. */
const char *step_path(char *path, int step, const char *name);

/* A number of exactly three digits from 001, or -1. */
int step_number(const char *text);
#endif
