#include "files.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"

/* Fills `out` from an open file of about `expected` bytes, which may still be growing. */
static bool read_open(int fd, size_t expected, struct blob *out) {
    size_t room = expected + 1, length = 0;
    char *data = malloc(room + 1);
    while (data) {
        ssize_t n = read(fd, data + length, room - length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        bool at_end = (size_t)n < room - length; /* of a regular file, a short read says so */
        length += (size_t)n;
        if (at_end) {
            data[length] = '\0';
            *out = (struct blob){data, length};
            return true;
        }
        if (room > FILE_MAX_BYTES) {
            errno = EFBIG;
            break;
        }
        room *= 2;
        char *larger = realloc(data, room + 1);
        if (!larger) break;
        data = larger;
    }
    int why = errno;
    free(data);
    errno = why;
    return false;
}

bool read_whole(const char *path, struct blob *out) {
    /* O_NONBLOCK: a job may have put a FIFO in the place of its env.out, and that must not stop us. */
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
    if (fd < 0) return false;
    struct stat about;
    bool done = false;
    if (fstat(fd, &about) == 0) {
        if (!S_ISREG(about.st_mode)) errno = EINVAL;
        else if (about.st_size > (off_t)FILE_MAX_BYTES) errno = EFBIG;
        else done = read_open(fd, (size_t)about.st_size, out);
    }
    int why = errno;
    close(fd);
    errno = why;
    return done;
}

bool read_word(const char *path, char *word, size_t size) {
    struct blob file;
    if (!read_whole(path, &file)) {
        if (errno == ENOENT) return false;
        give_up("can't read %s: %s", path, strerror(errno));
    }
    size_t length = strcspn(file.data, " \t\r\n");
    bool found = length > 0;
    if (found) snprintf(word, size, "%.*s", (int)(length < size ? length : size - 1), file.data);
    free(file.data);
    return found;
}

bool exists(const char *path) {
    if (access(path, F_OK) == 0) return true;
    if (errno != ENOENT) give_up("can't look at %s: %s", path, strerror(errno));
    return false;
}

bool write_all(int fd, const char *data, size_t length) {
    while (length > 0) {
        ssize_t n = write(fd, data, length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return false;
        data += n;
        length -= (size_t)n;
    }
    return true;
}

static bool sync_directory(const char *path, size_t length) {
    char directory[PATH_MAX_BYTES];
    snprintf(directory, sizeof directory, "%.*s", (int)length, path);
    int fd = open(length ? directory : ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return false;
    bool done = fsync(fd) == 0;
    int why = errno;
    close(fd);
    errno = why;
    return done;
}

/* The length of the directory's part of `path`, its slash included. */
static size_t directory_of(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? (size_t)(slash - path) + 1 : 0;
}

static void name_beside(const char *path, char *beside) {
    size_t directory = directory_of(path);
    snprintf(beside, PATH_MAX_BYTES, "%.*s.%s.new", (int)directory, path, path + directory);
}

/* What stands there is overwritten in its place and cut afterwards: so reserved space is not given back before it is used. */
static bool write_beside(const char *beside, const char *data, size_t length, enum durability durability) {
    int fd = open(beside, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    if (fd < 0) return false;
    bool written = write_all(fd, data, length) && ftruncate(fd, (off_t)length) == 0 && (durability == QUICK || fsync(fd) == 0);
    int why = errno;
    close(fd);
    errno = why;
    return written;
}

static bool withdraw(const char *beside) {
    int why = errno;
    unlink(beside);
    errno = why;
    return false;
}

bool reserve(const char *path, size_t length) {
    static const char blank[RESERVE_MAX_BYTES];
    char beside[PATH_MAX_BYTES];
    name_beside(path, beside);
    return write_beside(beside, blank, length, QUICK);
}

void release(const char *path) {
    char beside[PATH_MAX_BYTES];
    name_beside(path, beside);
    unlink(beside);
}

bool write_whole(const char *path, const char *data, size_t length, enum durability durability) {
    char beside[PATH_MAX_BYTES];
    name_beside(path, beside);
    if (!write_beside(beside, data, length, durability) || rename(beside, path) != 0) return withdraw(beside);
    return durability == QUICK || sync_directory(path, directory_of(path));
}

const char *own_mark(void) {
    static char mark[24];
    static pid_t whose;
    uint32_t random = 0;
    if (whose == getpid()) return mark;
    whose = getpid(); /* one that was forked makes its own */
    if (getrandom(&random, sizeof random, GRND_NONBLOCK) < 0) random = (uint32_t)mono_ns();
    snprintf(mark, sizeof mark, "%d-%08" PRIx32, (int)whose, random);
    return mark;
}

bool write_once(const char *path, const char *data, size_t length) {
    char beside[PATH_MAX_BYTES];
    int directory = (int)directory_of(path); /* several may try at once, each beside it in a file of its own */
    snprintf(beside, sizeof beside, "%.*s.%.16s.%s", directory, path, path + directory, own_mark());
    bool done = write_beside(beside, data, length, QUICK) && link(beside, path) == 0;
    withdraw(beside);
    return done;
}

const char *value_of(const struct blob *lines, const char *key, size_t *length) {
    size_t key_length = strlen(key);
    for (const char *line = lines->data; line && *line;) {
        const char *end = strchr(line, '\n');
        size_t size = end ? (size_t)(end - line) : strlen(line);
        if (size > key_length && line[key_length] == ' ' && strncmp(line, key, key_length) == 0) {
            *length = size - key_length - 1;
            return line + key_length + 1;
        }
        line = end ? end + 1 : NULL;
    }
    return NULL;
}
