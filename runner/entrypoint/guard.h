/* `entrypoint guard`: nothing of a command outlives who holds its lifeline. */
#ifndef GUARD_H
#define GUARD_H
#include <stdint.h>

/* Runs `argv`; returns its exit code, 128 + signal, or 126/127 when it could not be started. */
int guard(int lifeline, uint64_t grace_ms, char **argv);
#endif
