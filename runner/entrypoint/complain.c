#include "complain.h"

#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

void (*before_giving_up)(void);

static void say(const char *format, va_list args) {
    char line[1024];
    int length = snprintf(line, sizeof line, "entrypoint: ");
    vsnprintf(line + length, sizeof line - (size_t)length - 1, format, args);
    for (length = 0; line[length]; length++)
        if (line[length] == '\n') line[length] = ' ';
    line[length++] = '\n';
    struct pollfd room = {.fd = STDERR_FILENO, .events = POLLOUT};
    /* A failed write to stderr has nowhere to be told. */
    if (poll(&room, 1, 0) == 1 && write(STDERR_FILENO, line, (size_t)length) < 0) return;
}

void complain(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
}

void give_up(const char *format, ...) {
    va_list args;
    va_start(args, format);
    say(format, args);
    va_end(args);
    void (*last_duty)(void) = before_giving_up;
    before_giving_up = NULL; /* it may give up itself */
    if (last_duty) last_duty();
    _exit(EXIT_CANNOT);
}
