#include "install.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "complain.h"
#include "files.h"

static void copy(int from, int to, const char *path) {
    char buffer[16 * 1024];
    ssize_t n;
    while ((n = read(from, buffer, sizeof buffer)) > 0)
        if (!write_all(to, buffer, (size_t)n)) give_up("can't write %s: %s", path, strerror(errno));
    if (n < 0) give_up("can't read this program: %s", strerror(errno));
}

void install(const char *destination) {
    struct stat about;
    char path[4096], beside[4200];
    bool into = stat(destination, &about) == 0 && S_ISDIR(about.st_mode);
    if (snprintf(path, sizeof path, "%s%s", destination, into ? "/entrypoint" : "") >= (int)sizeof path)
        give_up("the path is too long: %s", destination);
    snprintf(beside, sizeof beside, "%s.%d.new", path, (int)getpid());

    int from = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
    if (from < 0) give_up("can't open this program: %s", strerror(errno));
    int to = open(beside, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0755);
    if (to < 0) give_up("can't write %s: %s", beside, strerror(errno));
    copy(from, to, beside);
    /* fchmod: the umask must not decide whether other users' steps can run it. */
    if (fchmod(to, 0755) != 0 || close(to) != 0 || rename(beside, path) != 0)
        give_up("can't install %s: %s", path, strerror(errno));
    close(from);
}
