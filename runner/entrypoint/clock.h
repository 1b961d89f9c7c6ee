/* Time in nanoseconds: monotonic for spans and deadlines, wall clock for what people read. */
#ifndef CLOCK_H
#define CLOCK_H
#include <stdint.h>
#include <time.h>

#define NS_PER_MS 1000000ull
#define NEVER UINT64_MAX

static inline uint64_t clock_ns(clockid_t which) {
    struct timespec t;
    clock_gettime(which, &t);
    return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}
static inline uint64_t mono_ns(void) { return clock_ns(CLOCK_MONOTONIC); }
static inline uint64_t wall_ns(void) { return clock_ns(CLOCK_REALTIME); }
static inline uint64_t boot_ns(void) { return clock_ns(CLOCK_BOOTTIME); } /* goes on while the machine sleeps */

/* The instant `ms` after `from`; NEVER when that lies beyond what 64 bits hold. */
static inline uint64_t after_ms(uint64_t from, uint64_t ms) {
    return ms > (NEVER - from) / NS_PER_MS ? NEVER : from + ms * NS_PER_MS;
}
#endif
