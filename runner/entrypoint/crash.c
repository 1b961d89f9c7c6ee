#include "crash.h"

#ifdef CRASH_POINTS
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define POINTS_MAX 16

static struct {
    const char *name;
    long passages;
} passed[POINTS_MAX];

/* How often this process has come by, this time included. */
static long count(const char *name) {
    size_t i = 0;
    while (i < POINTS_MAX - 1 && passed[i].name && strcmp(passed[i].name, name) != 0) i++;
    passed[i].name = name;
    return ++passed[i].passages;
}

/* N of `name:N` in the list; 0 when the point is not armed. */
static long armed_at(const char *list, const char *name) {
    size_t length = strlen(name);
    for (const char *at = list; at; at = strchr(at, ',')) {
        if (*at == ',') at++;
        if (strncmp(at, name, length) == 0 && at[length] == ':') return strtol(at + length + 1, NULL, 10);
    }
    return 0;
}

static bool is_first(const char *name) {
    const char *ledger = getenv("OVERSPILL_CRASH_LEDGER");
    char path[512];
    if (!ledger) return true;
    snprintf(path, sizeof path, "%s/%s", ledger, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return false;
    close(fd);
    return true;
}

void crash_point(const char *name, pid_t whom) {
    const char *list = getenv("OVERSPILL_CRASH_AT");
    if (!list || !armed_at(list, name) || count(name) != armed_at(list, name) || !is_first(name)) return;
    kill(whom, SIGKILL);
    for (;;) pause();
}
#endif
