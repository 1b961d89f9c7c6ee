#include "hunt.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "complain.h"

struct pids {
    pid_t *items;
    size_t count, room;
};

static void add(struct pids *pids, pid_t pid) {
    if (pids->count == pids->room) {
        pids->room = pids->room ? pids->room * 2 : 64;
        pids->items = realloc(pids->items, pids->room * sizeof *pids->items);
        if (!pids->items) give_up("no memory for the list of processes");
    }
    pids->items[pids->count++] = pid;
}

/* Adds the numbers in a /proc/PID/task/TID/children file. False when there is no such file. */
static bool add_children_of_thread(struct pids *pids, pid_t pid, const char *thread) {
    char path[64], text[4096];
    snprintf(path, sizeof path, "/proc/%d/task/%.20s/children", (int)pid, thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return false;
    pid_t number = 0;
    for (ssize_t n; (n = read(fd, text, sizeof text)) > 0;)
        for (ssize_t i = 0; i < n; i++) {
            if (isdigit((unsigned char)text[i])) {
                number = number * 10 + (text[i] - '0');
            } else if (number) {
                add(pids, number);
                number = 0;
            }
        }
    close(fd);
    return true;
}

static void add_children(struct pids *pids, pid_t pid) {
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = opendir(path);
    if (!threads) return; /* it is gone already, and its children are ours now: the next round finds them */
    for (struct dirent *entry; (entry = readdir(threads));)
        if (isdigit((unsigned char)entry->d_name[0])) add_children_of_thread(pids, pid, entry->d_name);
    closedir(threads);
}

/* The parent of a process from /proc/PID/stat, or 0. */
static pid_t parent_of(const char *pid) {
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = '\0';
    const char *name_end = strrchr(text, ')'); /* the name may hold anything, parentheses too */
    int parent = 0;
    if (!name_end || sscanf(name_end + 1, " %*c %d", &parent) != 1) return 0;
    return (pid_t)parent;
}

/* As add_children, for kernels built without the children files: slower, it reads every process there is. */
static void add_children_by_scan(struct pids *pids, pid_t parent) {
    DIR *all = opendir("/proc");
    if (!all) return;
    for (struct dirent *entry; (entry = readdir(all));)
        if (isdigit((unsigned char)entry->d_name[0]) && parent_of(entry->d_name) == parent)
            add(pids, (pid_t)atoi(entry->d_name));
    closedir(all);
}

static bool is_spared(pid_t pid, const pid_t *spared, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (spared[i] == pid) return true;
    return false;
}

size_t hunt(const pid_t *spared, size_t spared_count) {
    struct pids found = {0}, own = {0};
    pid_t self = getpid();
    char thread[24];
    snprintf(thread, sizeof thread, "%d", (int)self);
    bool has_children_files = add_children_of_thread(&own, self, thread);
    if (!has_children_files) add_children_by_scan(&own, self);
    for (size_t i = 0; i < own.count; i++)
        if (!is_spared(own.items[i], spared, spared_count)) add(&found, own.items[i]);
    free(own.items);

    size_t signalled = 0;
    for (size_t i = 0; i < found.count; i++) {
        /* Its children first: once it is dead they can't be found below it, only in the next round. */
        if (has_children_files) add_children(&found, found.items[i]);
        else add_children_by_scan(&found, found.items[i]);
        if (kill(found.items[i], SIGKILL) == 0) signalled++;
    }
    free(found.items);
    return signalled;
}
