#include "loop.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include "clock.h"
#include "complain.h"

#define TICK_BLIND_MS 250    /* without inotify the ticker is the hand-over's latency */
#define TICK_WATCHED_MS 2000 /* with inotify it only finds what a volume shared with another kernel doesn't announce */

#define LAST_SIGNAL 64
#define KERNEL_SIGSET_BYTES 8

static sigset_t our_signals(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

void loop_open(struct loop *loop) {
    *loop = (struct loop){.signals = -1, .inotify = -1, .alarm = -1, .tick_at = NEVER};
    /* An inherited "ignore" would be inherited by every step in turn, and an ignored SIGCHLD reaps behind our back.
       The raw call, because a C library keeps some real-time signals to itself and would leave them as they were. */
    static const unsigned long defaults[4];
    for (int number = 1; number <= LAST_SIGNAL; number++)
        if (number != SIGKILL && number != SIGSTOP) syscall(SYS_rt_sigaction, number, defaults, NULL, KERNEL_SIGSET_BYTES);
    signal(SIGPIPE, SIG_IGN);
    sigset_t set = our_signals();
    sigprocmask(SIG_SETMASK, &set, NULL);
    loop->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (loop->signals < 0) give_up("can't open a signalfd: %s", strerror(errno));
}

void loop_watch(struct loop *loop) {
    loop->inotify = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (loop->inotify >= 0 && (inotify_add_watch(loop->inotify, "go", IN_MOVED_TO | IN_CREATE) < 0 ||
                               inotify_add_watch(loop->inotify, ".", IN_MOVED_TO | IN_CREATE | IN_MOVED_FROM | IN_CLOSE_WRITE | IN_DELETE) < 0)) {
        close(loop->inotify);
        loop->inotify = -1;
    }
    loop->changed = true;
    loop->tick_at = 0;
}

void loop_alarm_at(struct loop *loop, uint64_t boot_ns) {
    if (loop->alarm < 0) loop->alarm = timerfd_create(CLOCK_BOOTTIME, TFD_CLOEXEC | TFD_NONBLOCK);
    struct itimerspec at = {.it_value = {.tv_sec = (time_t)(boot_ns / 1000000000u), .tv_nsec = (long)(boot_ns % 1000000000u)}};
    if (boot_ns == 0) at.it_value.tv_nsec = 1; /* 0 would disarm it */
    if (loop->alarm < 0 || timerfd_settime(loop->alarm, TFD_TIMER_ABSTIME, &at, NULL) != 0)
        give_up("can't set a timer: %s", strerror(errno));
}

void loop_close(struct loop *loop) {
    close(loop->signals);
    if (loop->alarm >= 0) close(loop->alarm);
    if (loop->inotify >= 0) close(loop->inotify);
}

void loop_reset_signals(void) {
    signal(SIGPIPE, SIG_DFL);
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void read_signals(struct loop *loop) {
    struct signalfd_siginfo info[8];
    ssize_t n;
    while ((n = read(loop->signals, info, sizeof info)) > 0) {
        for (size_t i = 0; i < (size_t)n / sizeof *info; i++) {
            if (info[i].ssi_signo == SIGCHLD) loop->child_ended = true;
            else if (!loop->ended_by) loop->ended_by = (int)info[i].ssi_signo;
        }
        if ((size_t)n < sizeof info) break;
    }
}

static void drain_inotify(struct loop *loop) {
    char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
    while (read(loop->inotify, events, sizeof events) > 0) loop->changed = true;
}

static void take_alarm(struct loop *loop) {
    uint64_t times;
    if (read(loop->alarm, &times, sizeof times) == sizeof times) loop->alarmed = true;
}

static int ppoll_until(struct pollfd *fds, nfds_t count, uint64_t deadline) {
    if (deadline == NEVER) return ppoll(fds, count, NULL, NULL);
    uint64_t now = mono_ns(), left = deadline > now ? deadline - now : 0;
    struct timespec span = {.tv_sec = (time_t)(left / 1000000000u), .tv_nsec = (long)(left % 1000000000u)};
    return ppoll(fds, count, &span, NULL);
}

bool loop_wait(struct loop *loop, int fd, uint64_t deadline) {
    if (loop->tick_at == 0) loop->tick_at = after_ms(mono_ns(), loop->inotify >= 0 ? TICK_WATCHED_MS : TICK_BLIND_MS);
    struct pollfd fds[] = {{.fd = loop->signals, .events = POLLIN}, {.fd = fd, .events = POLLIN},
                           {.fd = loop->inotify, .events = POLLIN}, {.fd = loop->alarm, .events = POLLIN}};
    int n = ppoll_until(fds, sizeof fds / sizeof *fds, deadline < loop->tick_at ? deadline : loop->tick_at);
    if (n < 0 && errno != EINTR) give_up("poll: %s", strerror(errno));
    if (n > 0 && fds[0].revents) read_signals(loop);
    if (n > 0 && fds[2].revents) drain_inotify(loop);
    if (n > 0 && fds[3].revents) take_alarm(loop);
    if (loop->tick_at != NEVER && (n == 0 || loop->inotify < 0) && mono_ns() >= loop->tick_at) {
        loop->tick_at = 0;
        loop->changed = true;
    }
    return n > 0 && fds[1].revents != 0;
}
