/* One step whose turn has come: its tries, its timeout, its readiness, its end. */
#ifndef STEP_H
#define STEP_H
#include <stdbool.h>

#include "children.h"
#include "config.h"
#include "fence.h"
#include "loop.h"
#include "record.h"
#include "tee.h"

/* What lives as long as this process. */
struct run {
    struct loop loop;
    struct children children;
    struct tee tee;
    int nothing;             /* /dev/null */
    char cancel[WORD_BYTES]; /* the word of `cancel`, or "cancel" for a signal of our own; empty: neither came */
    struct fence fence;
    bool overdue;            /* the fence's time is over: nothing of the attempt may run any more */
    bool alone;              /* in a container of a pod */
    bool shared;             /* with other steps, which run in turn */
    bool finished;           /* `finish` is there */
};

/* Looks for what the directory and the signals ask of us, if anything may have changed. */
void look(struct run *run);

/* Runs the step to its end and fills `outcome`. A background step calls `ready` once, when others may go on. */
void step_run(struct run *run, int step, const struct config *config, struct outcome *outcome, void (*ready)(void *), void *context);
#endif
