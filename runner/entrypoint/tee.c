#include "tee.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

void tee_open(struct tee *tee) {
    struct stat about;
    *tee = (struct tee){.kind = TEE_OFF, .fd = STDOUT_FILENO};
    if (fstat(STDOUT_FILENO, &about) != 0) return;
    if (S_ISREG(about.st_mode)) tee->kind = TEE_FILE;
    else if (S_ISSOCK(about.st_mode)) tee->kind = TEE_SOCKET;
    else {
        int fd = open("/proc/self/fd/1", O_WRONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY);
        tee->kind = fd >= 0 ? TEE_OWN : TEE_SHARED;
        if (fd >= 0) tee->fd = fd;
    }
}

/* One attempt that doesn't block; what it took, or -1 with errno. */
static ssize_t offer(const struct tee *tee, const char *data, size_t length) {
    if (tee->kind == TEE_SOCKET) return send(tee->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (tee->kind != TEE_SHARED) return write(tee->fd, data, length);
    /* POLLOUT on a pipe promises room for PIPE_BUF bytes, no more. */
    struct pollfd room = {.fd = tee->fd, .events = POLLOUT};
    if (poll(&room, 1, 0) <= 0) {
        errno = EAGAIN;
        return -1;
    }
    return write(tee->fd, data, length < PIPE_BUF ? length : PIPE_BUF);
}

void tee_write(struct tee *tee, const char *data, size_t length) {
    while (tee->kind != TEE_OFF && length > 0) {
        ssize_t n = offer(tee, data, length);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) tee->kind = TEE_OFF; /* closed or broken; it won't come back */
        if (n <= 0) return;
        data += n;
        length -= (size_t)n;
    }
}
