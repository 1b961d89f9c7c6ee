#include "log.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"
#include "config.h"
#include "files.h"

#define RESERVE_BYTES (64 * 1024)
#define INDEX_RESERVE_BYTES 4096
#define STAMP_MS 10         /* at most one log.idx record in this time */
#define READS_BEFORE_LOOK 16 /* a command that never stops writing must not keep us from its timeout */

static int open_to_append(int step, const char *name, uint64_t *size) {
    char path[PATH_MAX_BYTES];
    struct stat about;
    int fd = open(step_path(path, step, name), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    *size = fd >= 0 && fstat(fd, &about) == 0 ? (uint64_t)about.st_size : 0;
    return fd;
}

void log_open(struct log *log, int step, uint64_t limit, struct tee *tee) {
    *log = (struct log){.tee = tee, .limit = limit};
    log->fd = open_to_append(step, "log", &log->size);
    if (log->fd < 0) log->failed = errno;
    log->index = open_to_append(step, "log.idx", &log->index_size);
}

void log_reserve(struct log *log) {
    if (log->fd < 0 || log->size + RESERVE_BYTES / 2 < log->reserved) return;
    /* Beyond the file's end, without making it longer. Where that can't be had, the log takes its chances. */
    bool done = fallocate(log->fd, FALLOC_FL_KEEP_SIZE, (off_t)log->size, RESERVE_BYTES) == 0 &&
                fallocate(log->index, FALLOC_FL_KEEP_SIZE, (off_t)log->index_size, INDEX_RESERVE_BYTES) == 0;
    if (done) log->reserved = log->size + RESERVE_BYTES;
    else if (errno == EOPNOTSUPP || errno == ENOSYS) log->reserved = NEVER;
}

/* Gives back what was reserved, too, or takes off what did not get there whole. */
static void cut(int fd, uint64_t size) {
    if (fd >= 0 && ftruncate(fd, (off_t)size) != 0) complain("can't cut a log to its size: %s", strerror(errno));
}

void log_close(struct log *log) {
    cut(log->fd, log->size);
    cut(log->index, log->index_size);
    if (log->fd >= 0) close(log->fd);
    if (log->index >= 0) close(log->index);
}

/* Bytes the disk won't take count as dropped; the step goes on, and its exit says why. */
static bool put(struct log *log, const char *data, size_t length) {
    if (write_all(log->fd, data, length)) {
        log->size += length;
        return true;
    }
    if (!log->failed) log->failed = errno;
    struct stat about;
    if (fstat(log->fd, &about) == 0) log->size = (uint64_t)about.st_size; /* a part may have been written */
    return false;
}

static void put_little_endian(char *at, uint64_t value) {
    for (int i = 0; i < 8; i++) at[i] = (char)(value >> (8 * i));
}

/* Bytes without a time of their own have that of those before them. */
static void stamp(struct log *log, uint64_t offset) {
    uint64_t now = mono_ns();
    if (now < log->stamp_at) return;
    log->stamp_at = after_ms(now, STAMP_MS);
    uint64_t wall = wall_ns();
    log->last_stamp = wall > log->last_stamp ? wall : log->last_stamp;
    char record[16];
    put_little_endian(record, offset);
    put_little_endian(record + 8, log->last_stamp);
    if (write_all(log->index, record, sizeof record)) log->index_size += sizeof record;
    else cut(log->index, log->index_size);
}

static void tell_limit(struct log *log) {
    char line[160];
    int length = snprintf(line, sizeof line, "%sThe log limit of %llu bytes is reached; what follows is dropped.\n",
                          log->mid_line ? "\n" : "", (unsigned long long)log->limit);
    log->told = true;
    put(log, line, (size_t)length);
    tee_write(log->tee, line, (size_t)length);
}

static void take(struct log *log, const char *data, size_t length) {
    size_t kept = length;
    if (log->limit) {
        uint64_t room = log->size < log->limit && !log->told ? log->limit - log->size : 0;
        if (kept > room) kept = (size_t)room;
    }
    if (kept > 0) {
        uint64_t offset = log->size;
        if (put(log, data, kept)) log->mid_line = data[kept - 1] != '\n';
        log->dropped += kept - (log->size - offset);
        if (log->size > offset) stamp(log, offset);
        tee_write(log->tee, data, kept);
    }
    if (kept == length) return;
    log->dropped += length - kept;
    if (!log->told) tell_limit(log);
}

void log_tell_dropped(struct log *log) {
    char line[80];
    if (!log->told) return;
    int length = snprintf(line, sizeof line, "The log limit dropped %llu bytes.\n", (unsigned long long)log->dropped);
    put(log, line, (size_t)length);
    tee_write(log->tee, line, (size_t)length);
}

bool log_copy(struct log *log, int pipe) {
    static char buffer[64 * 1024]; /* a pipe's capacity; untouched, and so no memory, until a step runs */
    for (int i = 0; i < READS_BEFORE_LOOK; i++) {
        ssize_t n = read(pipe, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN;
        if (n == 0) return false;
        take(log, buffer, (size_t)n);
        log_reserve(log);
        if ((size_t)n < sizeof buffer) break;
    }
    return true;
}
