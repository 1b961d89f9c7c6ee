/* What hand-over figures stand beside, as small as it can be.
 *
 *   beside stamp FILE [MS]       a step: notes when it began and ended (CLOCK_MONOTONIC, ns), MS of waiting between
 *   beside chain N CMD...        the limit: N times fork, exec and wait, nothing else
 *   beside poll WAIT POST CMD... a step behind a file that is looked for once a second, as Tekton's entrypoint does
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static long long now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec * 1000000000LL + at.tv_nsec;
}

static void pause_ms(long ms) {
    struct timespec rest = {ms / 1000, ms % 1000 * 1000000};
    while (nanosleep(&rest, &rest) != 0) { }
}

static int stamp(const char *file, long ms, long long began) {
    int fd = open(file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
    if (fd < 0) return 1;
    if (ms > 0) pause_ms(ms);
    char line[64];
    int length = snprintf(line, sizeof line, "%lld %lld\n", began, now());
    return write(fd, line, (size_t)length) == length ? 0 : 1;
}

static int run(char **command) {
    pid_t child = fork();
    if (child < 0) return 1;
    if (child == 0) {
        execv(command[0], command);
        _exit(127);
    }
    int status;
    if (waitpid(child, &status, 0) != child) return 1;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}

static int poll_for(const char *wait, const char *post, char **command) {
    struct stat about;
    while (stat(wait, &about) != 0) sleep(1);
    int code = run(command);
    int fd = open(post, O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
    return fd < 0 ? 1 : code;
}

int main(int argc, char **argv) {
    long long began = now();
    if (argc >= 3 && strcmp(argv[1], "stamp") == 0) return stamp(argv[2], argc > 3 ? atol(argv[3]) : 0, began);
    if (argc >= 4 && strcmp(argv[1], "chain") == 0) {
        int code = 0;
        for (long left = atol(argv[2]); left > 0 && code == 0; left--) code = run(argv + 3);
        return code;
    }
    if (argc >= 5 && strcmp(argv[1], "poll") == 0) return poll_for(argv[2], argv[3], argv + 4);
    fprintf(stderr, "usage: beside stamp FILE [MS] | chain N CMD... | poll WAIT POST CMD...\n");
    return 64;
}
