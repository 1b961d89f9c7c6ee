/* The one place where this program waits: for signals, for a change of the attempt directory, for a file descriptor. */
#ifndef LOOP_H
#define LOOP_H
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct loop {
    int signals;       /* a signalfd */
    int inotify;       /* -1: none could be had, the ticker alone finds changes */
    uint64_t tick_at;  /* when to look at the directory whatever inotify says */
    bool changed;      /* the directory may have changed; who looks at it clears this first */
    int alarm;         /* a timerfd on CLOCK_BOOTTIME; -1: none was asked for */
    bool alarmed;      /* its time has come; who looks clears this first */
    bool child_ended;  /* a SIGCHLD came; who reaps clears this first */
    int ended_by;      /* the signal that asked this process to end, 0: none did */
};

/* Takes over SIGCHLD, SIGTERM, SIGINT and SIGHUP, and ignores SIGPIPE. */
void loop_open(struct loop *loop);

/* Watches the working directory and go/ below it. */
void loop_watch(struct loop *loop);

/* Sets `alarmed` at this instant of CLOCK_BOOTTIME, at once when it has passed. */
void loop_alarm_at(struct loop *loop, uint64_t boot_ns);

/* Closes all descriptors, so that a forked process can open its own. */
void loop_close(struct loop *loop);

/* Blocks until something of the above happened, `fd` (-1: none) is readable or at its end, or `deadline` has passed.
   True when `fd` is readable. The directory's events are drained before it returns: looking at it afterwards misses nothing. */
bool loop_wait(struct loop *loop, int fd, uint64_t deadline);

/* Puts the signals of a new process as a program expects them. */
void loop_reset_signals(void);
#endif
