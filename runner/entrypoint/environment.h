/* A step's environment: its base, and what the steps before it wrote to their env.out. */
#ifndef ENVIRONMENT_H
#define ENVIRONMENT_H
#include <stddef.h>

struct environment {
    char **items; /* NAME=value, each its own allocation; NULL ends them */
    size_t count, room;
};

/* In a container: what its image sets is below every step's base environment. */
void environment_inherit(void);

/* The base environment of `step` and the env.out of every lower-numbered one, later ones win. */
void environment_read(int step, struct environment *out);

void environment_free(struct environment *env);

/* The value of `name`, or NULL. */
const char *environment_get(const struct environment *env, const char *name);

/* Whether a step's env.out can be taken: `why` is empty, or says in one line what is wrong with it. */
void environment_check(int step, char *why, size_t size);
/* Says that nothing can write to the step's env.out any more: an empty one needs no look before every later step. */
void environment_seal(int step);
#endif
