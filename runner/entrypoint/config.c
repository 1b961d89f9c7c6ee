#include "config.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "complain.h"

const char *step_path(char *path, int step, const char *name) {
    snprintf(path, PATH_MAX_BYTES, "steps/%03d/%s", step, name);
    return path;
}

int step_number(const char *text) {
    if (strlen(text) != 3 || !isdigit((unsigned char)text[0]) || !isdigit((unsigned char)text[1]) ||
        !isdigit((unsigned char)text[2]))
        return -1;
    int number = atoi(text);
    return number > 0 ? number : -1;
}

static uint64_t decimal(const char *path, const char *key, const char *value) {
    char *end;
    errno = 0;
    uint64_t number = strtoull(value, &end, 10);
    if (errno || *end || !isdigit((unsigned char)value[0])) give_up("%s: %s is no number: %s", path, key, value);
    return number;
}

/* The index of `value` among `names`, which NULL ends. */
static int one_of(const char *path, const char *key, const char *value, const char *const *names) {
    for (int i = 0; names[i]; i++)
        if (strcmp(value, names[i]) == 0) return i;
    give_up("%s: %s can't be %s", path, key, value);
}

static int next_step(const char *path, const char *value) {
    int next = strcmp(value, "finish") == 0 ? NEXT_FINISH : step_number(value);
    if (next < 0) give_up("%s: next must be three digits or finish, not %s", path, value);
    return next;
}

static void take(struct config *c, const char *path, const char *key, const char *value) {
    static const char *const modes[] = {"foreground", "background", NULL};
    static const char *const conditions[] = {"success", "failure", "always", NULL};
    struct { const char *key; uint64_t *into; } numbers[] = {
        {"timeout_ms", &c->timeout_ms}, {"grace_ms", &c->grace_ms},   {"ready_timeout_ms", &c->ready_timeout_ms},
        {"retry", &c->retry},           {"log_limit_bytes", &c->log_limit_bytes},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (strcmp(key, numbers[i].key) == 0) *numbers[i].into = decimal(path, key, value);
    if (strcmp(key, "mode") == 0) c->mode = (enum mode)one_of(path, key, value, modes);
    if (strcmp(key, "if") == 0) c->condition = (enum condition)one_of(path, key, value, conditions);
    if (strcmp(key, "cwd") == 0) c->cwd = value;
    if (strcmp(key, "continue_on_error") == 0) c->continue_on_error = decimal(path, key, value) != 0;
    if (strcmp(key, "next") == 0) c->next = next_step(path, value);
    if (strcmp(key, "cgroup") == 0) {
        if (c->cgroup_count == CGROUPS_MAX) give_up("%s: more than %d cgroups", path, CGROUPS_MAX);
        c->cgroups[c->cgroup_count++] = value;
    }
    if (strcmp(key, "share") == 0) {
        if (c->share_count == SHARES_MAX) give_up("%s: more than %d paths to share", path, SHARES_MAX);
        c->shares[c->share_count++] = value;
    }
}

void config_read(int step, struct config *out) {
    char path[PATH_MAX_BYTES];
    *out = (struct config){.cwd = "/", .grace_ms = 10000, .ready_timeout_ms = 60000, .next = -1};
    if (!read_whole(step_path(path, step, "config"), &out->text)) give_up("can't read %s: %s", path, strerror(errno));
    char *rest = out->text.data;
    for (char *line; (line = strsep(&rest, "\n"));) {
        char *space = strchr(line, ' ');
        if (!space) continue; /* an empty line, or a key of a later version that stands alone */
        *space = '\0';
        take(out, path, line, space + 1);
    }
    if (out->cwd[0] != '/') give_up("%s: cwd must be absolute, not %s", path, out->cwd);
    if (out->next < 0) give_up("%s: no `next`", path);
}

void config_free(struct config *config) { free(config->text.data); }

bool strings_read_if_any(int step, const char *name, struct strings *out) {
    char path[PATH_MAX_BYTES];
    *out = (struct strings){0};
    if (!read_whole(step_path(path, step, name), &out->text)) {
        if (errno == ENOENT) return false;
        give_up("can't read %s: %s", path, strerror(errno));
    }
    struct blob *text = &out->text;
    if (text->length && text->data[text->length - 1] != '\0') give_up("%s does not end in a NUL", path);
    for (size_t i = 0; i < text->length; i++) out->count += text->data[i] == '\0';
    out->items = calloc(out->count + 1, sizeof *out->items);
    if (!out->items) give_up("no memory for %s", path);
    char *at = text->data;
    for (size_t i = 0; i < out->count; i++, at += strlen(at) + 1) out->items[i] = at;
    return true;
}

void strings_read(int step, const char *name, struct strings *out) {
    if (!strings_read_if_any(step, name, out)) give_up("steps/%03d/%s is missing", step, name);
}

void strings_free(struct strings *strings) {
    free(strings->items);
    free(strings->text.data);
    *strings = (struct strings){0};
}
