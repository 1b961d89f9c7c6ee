/* Starting a program: the way from a command line to an exec, with a reason a person can act on when there is none. */
#ifndef SPAWN_H
#define SPAWN_H
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct program {
    char **argv, **environment;
    const char *search_path; /* where a name without a slash is looked for */
    const char *cwd;         /* NULL: stay here, and leave stdin, stdout and stderr alone */
    int input, output;       /* become stdin; stdout and stderr */
    const char *const *cgroups; /* to join before exec */
    size_t cgroup_count;
    int parent_death_signal;
    /* Called in the new process before it can become the program, with memory still shared: what it records is on disk
       before the program's first instruction. False with errno: it is not started. NULL: nothing to do. */
    bool (*before_exec)(void *context);
    void *context;
};

struct spawned {
    pid_t pid;         /* 0: not started */
    int code;          /* then 127 for a command that isn't there, 126 for one that can't be run, as shells have it */
    char message[400]; /* then: why, and what to do */
};

/* Starts it in a session of its own. */
void spawn(const struct program *program, struct spawned *out);
#endif
