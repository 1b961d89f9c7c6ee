#include "usage.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Kernel files have no size to stat, so they are read into what they surely fit. */
static bool read_kernel_file(const char *directory, const char *name, char *text, size_t size) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    if (n < 0) return false;
    text[n] = '\0';
    return true;
}

/* The number in a file: all it holds, or the one behind `key` at a line's start. */
static bool number_in(const char *directory, const char *name, const char *key, uint64_t *number) {
    char text[4096];
    if (!read_kernel_file(directory, name, text, sizeof text)) return false;
    const char *at = text;
    if (key) {
        size_t length = strlen(key);
        while (at && !(strncmp(at, key, length) == 0 && at[length] == ' ')) {
            at = strchr(at, '\n');
            if (at) at++;
        }
        if (!at) return false;
        at += length + 1;
    }
    if (!isdigit((unsigned char)*at)) return false;
    *number = strtoull(at, NULL, 10);
    return true;
}

static bool read_cpu(const char *dir, struct usage *u) {
    uint64_t user, system;
    if (number_in(dir, "cpu.stat", "user_usec", &user) && number_in(dir, "cpu.stat", "system_usec", &system)) {
        u->user_us = user;
        u->system_us = system;
        return true;
    }
    if (!number_in(dir, "cpuacct.usage", NULL, &user)) return false;
    /* The whole is exact, its parts are counted in ticks, and old kernels don't tell them apart. */
    if (!number_in(dir, "cpuacct.usage_sys", NULL, &system)) system = 0;
    if (system > user) system = user;
    u->user_us = (user - system) / 1000;
    u->system_us = system / 1000;
    return true;
}

/* The limit that holds for a group: v1 tells it; in v2 it is its own, or that of the attempt's group above it. */
static uint64_t memory_limit(const char *dir) {
    uint64_t limit;
    char above[4000];
    if (number_in(dir, "memory.stat", "hierarchical_memory_limit", &limit)) return limit;
    if (number_in(dir, "memory.max", NULL, &limit)) return limit;
    snprintf(above, sizeof above, "%s/..", dir);
    return number_in(above, "memory.max", NULL, &limit) ? limit : 0;
}

static bool read_memory(const char *dir, struct usage *u) {
    bool peak = number_in(dir, "memory.peak", NULL, &u->peak_bytes) ||
                number_in(dir, "memory.max_usage_in_bytes", NULL, &u->peak_bytes);
    bool kills = number_in(dir, "memory.events", "oom_kill", &u->oom_kills) ||
                 number_in(dir, "memory.oom_control", "oom_kill", &u->oom_kills);
    if (kills) u->limit_bytes = memory_limit(dir);
    return peak || kills;
}

/* Where a container finds its own group: version 2, version 1. Of a group above it these files tell nothing. */
static const char *const own_groups[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/memory"};

static bool read_container(struct usage *u) {
    for (size_t i = 0; i < sizeof own_groups / sizeof *own_groups; i++)
        if (read_memory(own_groups[i], u)) return true;
    return false; /* a sandbox that shows none */
}

struct container_memory usage_of_container(void) {
    struct usage u = {0};
    bool known = read_container(&u);
    return (struct container_memory){known, u.peak_bytes, u.oom_kills};
}

/* A peak below that of a step before it can't be told from the group, which never forgets one. */
static void add_container(struct usage *u, const struct container_memory *before) {
    struct usage now = {0};
    if (!read_container(&now)) return;
    u->oom_kills = now.oom_kills - before->oom_kills;
    u->limit_bytes = now.limit_bytes;
    if (now.peak_bytes <= before->peak_bytes) return;
    u->peak_bytes = now.peak_bytes;
    u->from_cgroup = true;
}

struct usage usage_read(const struct config *config, const struct children *children, const struct container_memory *before) {
    struct usage u = {.user_us = children->user_us, .system_us = children->system_us, .peak_bytes = children->peak_bytes};
    for (size_t i = 0; i < config->cgroup_count; i++) {
        bool cpu = read_cpu(config->cgroups[i], &u), memory = read_memory(config->cgroups[i], &u);
        if (cpu || memory) u.from_cgroup = true;
    }
    if (config->cgroup_count == 0 && before->known) add_container(&u, before);
    return u;
}
