#include "plan.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "config.h"
#include "files.h"

#define BOOT_ID "/proc/sys/kernel/random/boot_id"
#define BOOT_ID_BYTES 64

/* Containers of one pod may run as different users, and each makes what it is the first to need. */
static void make_directory(const char *path) {
    struct stat about;
    if (mkdir(path, 0777) != 0) {
        if (errno != EEXIST) give_up("can't make %s: %s", path, strerror(errno));
    } else if (stat(path, &about) == 0) {
        chmod(path, about.st_mode | 0777); /* whatever the umask says; the volume's group goes down with its bit */
    }
}

static void make_parents(char *path) {
    for (char *slash = path; (slash = strchr(slash + 1, '/'));) {
        *slash = '\0';
        make_directory(path);
        *slash = '/';
    }
}

/* The plan comes from a volume that the step can't write, but it is read with suspicion: nothing leaves the directory. */
static bool stays_below(const char *path) {
    if (path[0] == '/' || path[0] == '\0') return false;
    for (const char *part = path; part; part = strchr(part, '/'), part += part != NULL)
        if (strncmp(part, "..", 2) == 0 && (part[2] == '/' || part[2] == '\0')) return false;
    return true;
}

/* Beside its place, then linked: whoever comes second, a container started again say, changes nothing. */
static void put(const char *path, mode_t mode, const char *data, size_t length) {
    char beside[PATH_MAX_BYTES + 32];
    snprintf(beside, sizeof beside, "%s.%s.plan", path, own_mark());
    int fd = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) give_up("can't write %s: %s", beside, strerror(errno));
    bool written = write_all(fd, data, length) && fchmod(fd, mode) == 0;
    close(fd);
    if (written && link(beside, path) != 0 && errno != EEXIST) written = false;
    int why = errno;
    unlink(beside);
    if (!written) give_up("can't write %s: %s", path, strerror(why));
}

/* One record: "<octal mode> <length> <path>\n", the bytes, "\n". A path that ends in a slash is a directory. */
static char *take_record(const char *plan, char *at, const char *end) {
    char *line_end = memchr(at, '\n', (size_t)(end - at)), *rest;
    if (!line_end) give_up("%s: a record without an end of its line", plan);
    *line_end = '\0';
    errno = 0;
    unsigned long mode = strtoul(at, &rest, 8);
    uint64_t length = *rest == ' ' ? strtoull(rest + 1, &rest, 10) : UINT64_MAX;
    if (errno || *rest != ' ' || mode > 0777 || length >= (uint64_t)(end - line_end) || !stays_below(rest + 1))
        give_up("%s: a bad record: %s", plan, at);
    char path[PATH_MAX_BYTES], *data = line_end + 1;
    if (snprintf(path, sizeof path, "%s", rest + 1) >= (int)sizeof path) give_up("%s: too long a path: %s", plan, rest + 1);
    make_parents(path);
    if (path[strlen(path) - 1] != '/') put(path, (mode_t)mode, data, length);
    if (data[length] != '\n') give_up("%s: the record of %s does not end where it should", plan, path);
    return data + length + 1;
}

/* Mapped, not read: a process that waits for hours gives back every page of it. */
static void unpack_one(const char *plan) {
    struct stat about;
    int fd = open(plan, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &about) != 0) give_up("can't read the plan %s: %s", plan, strerror(errno));
    if (!S_ISREG(about.st_mode) || about.st_size <= 0) give_up("the plan %s is no file, or empty", plan);
    size_t length = (size_t)about.st_size;
    char *data = mmap(NULL, length, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED) give_up("can't map the plan %s: %s", plan, strerror(errno));
    close(fd);
    for (char *at = data; at < data + length;) at = take_record(plan, at, data + length);
    munmap(data, length);
}

/* A pod outlives a restart of its node, and its volume does; what its steps did may not. Whoever is first notes the boot. */
static bool of_this_boot(void) {
    char now[BOOT_ID_BYTES], noted[BOOT_ID_BYTES];
    int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
    ssize_t length = fd < 0 ? -1 : read(fd, now, sizeof now - 1);
    if (fd >= 0) close(fd);
    if (length <= 0) return true; /* a sandbox that tells none: it does not outlive its machine */
    put("boot", 0644, now, (size_t)length);
    now[length] = '\0';
    now[strcspn(now, "\n")] = '\0';
    return !read_word("boot", noted, sizeof noted) || strcmp(now, noted) == 0;
}

bool plan_unpack(const char *plan, const char *directory, const int *steps, size_t count) {
    umask(0002); /* what a step makes, a step of another user may change: they have the volume's group in common */
    if (chdir(directory) != 0) give_up("can't enter %s: %s", directory, strerror(errno));
    for (size_t i = 0; i < count; i++) {
        char path[4096];
        if (snprintf(path, sizeof path, "%s/%03d", plan, steps[i]) >= (int)sizeof path) give_up("too long a path: %s", plan);
        unpack_one(path);
    }
    return of_this_boot();
}
