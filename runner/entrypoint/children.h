/* The processes below this one: the step's command, its readiness command, supervisors of background steps, orphans. */
#ifndef CHILDREN_H
#define CHILDREN_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "config.h"

/* A child somebody waits for. */
struct child {
    pid_t pid; /* 0: there is none */
    bool ended;
    int status; /* as of wait4, once ended */
};

struct children {
    struct child command, probe;
    pid_t supervisors[STEP_MAX]; /* entrypoints of background steps, forked from this one: never hunted */
    size_t supervisor_count;
    bool supervisor_failed;      /* one ended without having done its work */
    uint64_t user_us, system_us, peak_bytes; /* of everything reaped but supervisors, since the last reset */
};

/* Makes this process the parent of every orphan below it. */
void become_subreaper(void);

/* Reaps what has ended. True when no child is left at all, and so no descendant either. */
bool reap(struct children *children);

/* SIGKILLs and reaps every descendant but supervisors. Returns 0, or how many would not die within seconds. */
size_t leave_none(struct children *children);
#endif
