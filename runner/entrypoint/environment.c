#include "environment.h"

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "config.h"

#define OWN_PREFIX "OVERSPILL_"      /* what steps may not set: the platform's own names */
#define CLUSTER_PREFIX "KUBERNETES_" /* where the API server is: no build may reach it */

/* Sets `item`, a NAME=value that is now ours, in the place of an older value. */
static void set(struct environment *env, char *item, size_t name_length) {
    for (size_t i = 0; i < env->count; i++) {
        if (strncmp(env->items[i], item, name_length + 1) != 0) continue;
        free(env->items[i]);
        env->items[i] = item;
        return;
    }
    if (env->count + 1 >= env->room) {
        env->room = env->room ? env->room * 2 : 64;
        env->items = realloc(env->items, env->room * sizeof *env->items);
        if (!env->items) give_up("no memory for the environment");
    }
    env->items[env->count++] = item;
    env->items[env->count] = NULL;
}

static char *item_of(const char *name, size_t name_length, const char *value, size_t value_length) {
    char *item = malloc(name_length + value_length + 2);
    if (!item) give_up("no memory for the environment");
    memcpy(item, name, name_length);
    item[name_length] = '=';
    memcpy(item + name_length + 1, value, value_length);
    item[name_length + 1 + value_length] = '\0';
    return item;
}

static bool starts_name(char c) { return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }

static size_t name_length(const char *at, const char *end) {
    const char *c = at;
    if (c < end && starts_name(*c))
        while (c < end && (starts_name(*c) || (*c >= '0' && *c <= '9'))) c++;
    return (size_t)(c - at);
}

/* Where in an env.out we are. */
struct cursor {
    const char *at, *end;
    unsigned line; /* the number of the line last read */
};

static bool next_line(struct cursor *c, const char **line, size_t *length) {
    if (c->at == c->end) return false;
    const char *newline = memchr(c->at, '\n', (size_t)(c->end - c->at));
    *line = c->at;
    *length = (size_t)((newline ? newline : c->end) - c->at);
    c->at = newline ? newline + 1 : c->end;
    c->line++;
    return true;
}

/* Reads the lines up to the one that is `word`. The value keeps its inner newlines but not the last one. */
static bool heredoc(struct cursor *c, const char *word, size_t word_length, const char **value, size_t *length) {
    const char *begin = c->at, *line;
    size_t size;
    while (next_line(c, &line, &size)) {
        if (size != word_length || memcmp(line, word, size) != 0) continue;
        *value = begin;
        *length = line == begin ? 0 : (size_t)(line - begin) - 1;
        return true;
    }
    return false;
}

/* Reads env.out lines into `into`, or only checks them when that is NULL. NULL, or what is wrong with line `c->line`. */
static const char *read_lines(struct cursor *c, struct environment *into) {
    const char *line, *value;
    size_t length, size;
    while (next_line(c, &line, &length)) {
        size_t name = name_length(line, line + length);
        const char *rest = line + name;
        size_t left = length - name;
        unsigned opened = c->line;
        if (name > 0 && left >= 1 && rest[0] == '=') {
            value = rest + 1;
            size = left - 1;
        } else if (name > 0 && left > 2 && rest[0] == '<' && rest[1] == '<') {
            if (!heredoc(c, rest + 2, left - 2, &value, &size)) {
                c->line = opened;
                return "the value that begins here has no end: its closing word is missing";
            }
        } else {
            return "neither NAME=value nor NAME<<WORD";
        }
        unsigned last = c->line;
        c->line = opened;
        if (name >= strlen(OWN_PREFIX) && strncmp(line, OWN_PREFIX, strlen(OWN_PREFIX)) == 0)
            return "names beginning with " OWN_PREFIX " are the platform's own";
        if (memchr(value, '\0', size)) return "a value can't hold a NUL byte";
        c->line = last;
        if (into) set(into, item_of(line, name, value, size), name);
    }
    return NULL;
}

static struct cursor cursor_of(const struct blob *file) {
    return (struct cursor){.at = file->data, .end = file->data + file->length};
}

void environment_check(int step, char *why, size_t size) {
    char path[PATH_MAX_BYTES];
    struct blob file;
    why[0] = '\0';
    if (!read_whole(step_path(path, step, "env.out"), &file)) {
        if (errno != ENOENT) snprintf(why, size, "env.out can't be read: %s", strerror(errno));
        return;
    }
    struct cursor c = cursor_of(&file);
    const char *wrong = read_lines(&c, NULL);
    if (wrong) snprintf(why, size, "env.out line %u: %s", c.line, wrong);
    free(file.data);
}

static bool sealed_empty[STEP_MAX + 1];

void environment_seal(int step) {
    char path[PATH_MAX_BYTES];
    struct stat about;
    sealed_empty[step] = stat(step_path(path, step, "env.out"), &about) == 0 && about.st_size == 0;
}

/* Takes all of a lower step's env.out or, when something is wrong with it, nothing: its own exit says so. */
static void merge(struct environment *env, int step) {
    char path[PATH_MAX_BYTES];
    struct stat about;
    struct blob file;
    if (sealed_empty[step]) return;
    step_path(path, step, "env.out");
    if (stat(path, &about) != 0 || about.st_size == 0 || !read_whole(path, &file)) return;
    struct cursor check = cursor_of(&file), take = cursor_of(&file);
    if (!read_lines(&check, NULL)) read_lines(&take, env);
    free(file.data);
}

static bool inherits;

void environment_inherit(void) { inherits = true; }

static bool begins_with(const char *item, const char *prefix) { return strncmp(item, prefix, strlen(prefix)) == 0; }

static void take_inherited(struct environment *env) {
    for (char **item = environ; *item; item++) {
        const char *equals = strchr(*item, '=');
        if (!equals || begins_with(*item, OWN_PREFIX) || begins_with(*item, CLUSTER_PREFIX)) continue;
        set(env, item_of(*item, (size_t)(equals - *item), equals + 1, strlen(equals + 1)), (size_t)(equals - *item));
    }
}

void environment_read(int step, struct environment *out) {
    struct strings base;
    *out = (struct environment){0};
    if (inherits) take_inherited(out);
    strings_read(step, "env", &base);
    for (size_t i = 0; i < base.count; i++) {
        const char *item = base.items[i], *equals = strchr(item, '=');
        if (!equals) give_up("steps/%03d/env: no `=` in %s", step, item);
        set(out, item_of(item, (size_t)(equals - item), equals + 1, strlen(equals + 1)), (size_t)(equals - item));
    }
    strings_free(&base);
    if (!out->items) out->items = calloc(1, sizeof *out->items);
    if (!out->items) give_up("no memory for the environment");
    for (int before = 1; before < step; before++) merge(out, before);
}

void environment_free(struct environment *env) {
    for (size_t i = 0; i < env->count; i++) free(env->items[i]);
    free(env->items);
    *env = (struct environment){0};
}

const char *environment_get(const struct environment *env, const char *name) {
    size_t length = strlen(name);
    for (size_t i = 0; i < env->count; i++)
        if (strncmp(env->items[i], name, length) == 0 && env->items[i][length] == '=') return env->items[i] + length + 1;
    return NULL;
}
