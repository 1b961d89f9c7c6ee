/* `entrypoint run`: the steps of one process, one after the other. */
#ifndef RUN_H
#define RUN_H
#include <stdbool.h>
#include <stddef.h>

/* Runs `steps` of the attempt in `directory`. Returns 0, or EXIT_CANNOT. */
int run_steps(const char *directory, const int *steps, size_t count, bool tee);
#endif
