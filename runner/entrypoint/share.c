#include "share.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"

#define DEPTH_MAX 256 /* of directories, each of which is an open file meanwhile */

static bool is_readable(const struct stat *about, gid_t group) {
    mode_t all = S_ISDIR(about->st_mode) ? 05 : 04;
    mode_t granted = about->st_gid == group ? about->st_mode >> 3 : about->st_mode;
    return (granted & all) == all;
}

static bool is_ours_to_open(const struct stat *about, gid_t group) {
    return (S_ISDIR(about->st_mode) || S_ISREG(about->st_mode)) && about->st_uid == geteuid() && !is_readable(about, group);
}

/* By its descriptor: what stands under the name may be another by now. */
static void open_up(int fd, const char *name, gid_t group) {
    struct stat about;
    if (fstat(fd, &about) != 0 || !is_ours_to_open(&about, group)) return;
    mode_t mode = (about.st_mode & 07777) | (S_ISDIR(about.st_mode) ? 050 : 040);
    if ((about.st_gid != group && fchown(fd, (uid_t)-1, group) != 0) || fchmod(fd, mode) != 0)
        complain("can't let the group read %s: %s", name, strerror(errno));
}

/* Returns the directory, opened up, or -1 where there is none, or only a link to one. */
static int enter(int parent, const char *name, gid_t group) {
    int fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd >= 0) open_up(fd, name, group);
    return fd;
}

static void share_one(int parent, const char *name, gid_t group, int depth);

static void share_below(int directory, gid_t group, int depth) {
    DIR *entries = depth < DEPTH_MAX ? fdopendir(directory) : NULL;
    if (!entries) {
        close(directory);
        return;
    }
    for (struct dirent *entry; (entry = readdir(entries));)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0)
            share_one(directory, entry->d_name, group, depth + 1);
    closedir(entries);
}

static void share_one(int parent, const char *name, gid_t group, int depth) {
    struct stat about;
    if (fstatat(parent, name, &about, AT_SYMLINK_NOFOLLOW) != 0) return;
    if (S_ISDIR(about.st_mode)) {
        int directory = enter(parent, name, group);
        if (directory >= 0) share_below(directory, group, depth);
    } else if (is_ours_to_open(&about, group)) {
        /* O_NONBLOCK: a FIFO may have taken its place. */
        int fd = openat(parent, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
        if (fd < 0) return;
        open_up(fd, name, group);
        close(fd);
    }
}

/* `path` is relative to the attempt directory; the directories on its way are opened up too. */
static void share_path(const char *path, gid_t group) {
    char part[256]; /* longer names than 255 bytes there are not */
    int at = AT_FDCWD;
    for (const char *slash; (slash = strchr(path, '/')); path = slash + 1) {
        if (slash == path) continue;
        if (snprintf(part, sizeof part, "%.*s", (int)(slash - path), path) >= (int)sizeof part) break;
        int next = enter(at, part, group);
        if (at != AT_FDCWD) close(at);
        if ((at = next) < 0) return;
    }
    share_one(at, path, group, 0);
    if (at != AT_FDCWD) close(at);
}

void share(const struct config *config) {
    struct stat own;
    if (config->share_count == 0) return;
    if (stat(".", &own) != 0) give_up("can't look at the attempt directory: %s", strerror(errno));
    for (size_t i = 0; i < config->share_count; i++) share_path(config->shares[i], own.st_gid);
}
