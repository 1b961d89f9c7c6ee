/* `entrypoint run`: the steps of one process, one after the other. */
#ifndef RUN_H
#define RUN_H
#include <stdbool.h>
#include <stddef.h>

/* What an entrypoint makes of a step that was started and has no exit. */
enum history {
    SOMEBODY_KNOWS, /* refuses it: who started us looks after it */
    ALONE,          /* in a pod: says that it is lost */
    REBOOTED,       /* in a pod whose node was started anew: so is what was not begun */
};

/* Runs `steps` of the attempt in `directory`. Returns 0, or EXIT_CANNOT. */
int run_steps(const char *directory, const int *steps, size_t count, bool tee, enum history history);
#endif
