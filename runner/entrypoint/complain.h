/* What a person reads when this program can't do its work. */
#ifndef COMPLAIN_H
#define COMPLAIN_H

#define EXIT_CANNOT 70 /* EX_SOFTWARE: the entrypoint can't do its work; nothing is known of the step */

/* One line on stderr. Never blocks: a reader who doesn't read loses the line. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* One line on stderr, then `before_giving_up`, then exit with EXIT_CANNOT. */
_Noreturn void give_up(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* What must happen before the process goes: a running step must not outlive it. NULL at first. */
extern void (*before_giving_up)(void);
#endif
