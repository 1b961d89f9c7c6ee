/* Files of the attempt directory: read whole or not at all, written whole or not at all. */
#ifndef FILES_H
#define FILES_H
#include <stdbool.h>
#include <stddef.h>

#define FILE_MAX_BYTES (4u << 20) /* more than any command line or environment the kernel takes */
#define RESERVE_MAX_BYTES 2048 /* the largest record: an exit file */
#define PATH_MAX_BYTES 64         /* paths inside the attempt directory are short: steps/001/output.out */

struct blob {
    char *data; /* NUL-terminated after `length` bytes; the caller frees it */
    size_t length;
};

enum durability { QUICK, DURABLE };

/* Reads a regular file. False with errno; EFBIG past FILE_MAX_BYTES, EINVAL when it is no regular file. */
bool read_whole(const char *path, struct blob *out);

/* The first word of a small file, or false when the file is absent or empty. Gives up on any other error. */
bool read_word(const char *path, char *word, size_t size);

/* True when `path` exists, whatever is in it. */
bool exists(const char *path);

/* Takes disk space now for what write_whole will put at `path`, up to `length` bytes: on a full disk it still succeeds.
   False with errno. Copy-on-write file systems promise less. */
bool reserve(const char *path, size_t length);

/* Gives back what `reserve` took and nobody needed. */
void release(const char *path);

/* Writes beside `path`, then renames. DURABLE: on the disk, name and all, before it returns. False with errno. */
bool write_whole(const char *path, const char *data, size_t length, enum durability durability);

/* As write_whole, but what is at `path` already stands. False with errno; EEXIST then. */
bool write_once(const char *path, const char *data, size_t length);

/* Tells this process from every other that may write into the directory, whose containers number theirs alike. */
const char *own_mark(void);

/* Writes all of it, however often the kernel takes only a part. False with errno. */
bool write_all(int fd, const char *data, size_t length);

/* The value of `key` in `key value` lines, or NULL; `*length` is its length. */
const char *value_of(const struct blob *lines, const char *key, size_t *length);
#endif
