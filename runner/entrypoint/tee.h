/* A copy of the log on this process's stdout, for `kubectl logs` and terminals. It never blocks; what isn't taken is lost. */
#ifndef TEE_H
#define TEE_H
#include <stddef.h>

enum tee_kind {
    TEE_OFF,
    TEE_FILE,   /* a regular file or /dev/null: writes don't block */
    TEE_SOCKET, /* send() can be told not to block */
    TEE_OWN,    /* a pipe or terminal opened anew: O_NONBLOCK is ours alone, not the file description others share */
    TEE_SHARED, /* one that may not be opened anew (another user's pipe): poll, then at most PIPE_BUF bytes */
};

struct tee {
    enum tee_kind kind;
    int fd;
};

void tee_open(struct tee *tee);
void tee_write(struct tee *tee, const char *data, size_t length);
#endif
