/* A step's log: its bytes, when they came (log.idx), and what the limit dropped. */
#ifndef LOG_H
#define LOG_H
#include <stdbool.h>
#include <stdint.h>

#include "tee.h"

struct log {
    int fd, index;                 /* -1: could not be opened */
    struct tee *tee;
    uint64_t size, index_size, limit, dropped; /* bytes; limit 0: none */
    uint64_t reserved;             /* up to where the file has its space already */
    uint64_t stamp_at;             /* monotonic: when the next log.idx record may be written */
    uint64_t last_stamp;           /* wall clock of the last one: a clock set back must not make the index go back */
    bool mid_line;                 /* the last byte kept is no newline */
    bool told;                     /* the line about the limit is written */
    int failed;                    /* errno of the first write that failed, 0: none did */
};

/* Opens `steps/NNN/log` and its index to append to. What can't be opened keeps nothing, and `failed` says why. */
void log_open(struct log *log, int step, uint64_t limit, struct tee *tee);

/* Takes disk space for what comes next: a step that fills the disk can still say so. */
void log_reserve(struct log *log);

/* Copies what a pipe holds now. False at its end. */
bool log_copy(struct log *log, int pipe);

/* The last line of a log that reached its limit: how many bytes it lacks. */
void log_tell_dropped(struct log *log);

void log_close(struct log *log);
#endif
