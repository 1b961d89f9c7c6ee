/* What this program tells the world: started, ready, exit, go and finish. */
#ifndef RECORD_H
#define RECORD_H
#include <stdbool.h>
#include <stdint.h>

#include "config.h"
#include "usage.h"

#define WORD_BYTES 16 /* the longest word of the protocol and its NUL */

/* How a step ended; the strings are the protocol's words. */
struct outcome {
    const char *state, *killed_for;
    bool has_code;
    int code;
    int signal;     /* 0: none */
    bool went_well; /* before continue_on_error is applied */
    uint64_t tries;
    uint64_t started_wall, ended_wall, duration; /* ns */
    struct usage usage;
    uint64_t log_bytes, log_dropped;
    char message[512];
};

/* Takes the disk space now that the step's records will need, so that a step that fills the disk can still be told of.
   Where there is none to be had already, its records come to an error of their own. */
void record_reserve(int step, const struct config *config);

/* Records that the calling process is about to become the step's command. False with errno. Doesn't allocate. */
bool record_started(int step, uint64_t try);

void record_ready(int step);

/* Writes the exit file; gives up when it can't. Returns true when the step counts as failed. */
bool record_exit(int step, const struct config *config, const struct outcome *outcome);

/* Posts go/<next> or finish, unless it is there already: a restarted entrypoint posts again what it may have posted. */
void post(int next, const char *word);

/* Whether a step has its exit file. The words are its verdict and killed_for. */
bool read_exit(int step, char *verdict, char *killed_for);
#endif
