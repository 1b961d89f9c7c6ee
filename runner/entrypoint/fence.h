/* The fence: without contact to the hub for long enough, an attempt ends itself. What to go by is in the file `fence`. */
#ifndef FENCE_H
#define FENCE_H
#include <stdbool.h>
#include <stdint.h>

#include "files.h"

struct fence {
    bool up;              /* this attempt is fenced */
    const char *contact;  /* the file where the edge notes its last contact, CLOCK_BOOTTIME ns */
    uint64_t since_ns;    /* the contact known when the attempt was laid out; 0 in a pod, where step-ctl makes the first */
    bool armed;           /* it was looked at, and a timer is set for it */
    uint64_t end_ms, kill_ms; /* after the last contact: when the attempt begins to end, when nothing of it is left */
    struct blob text;     /* what `contact` points into */
};

/* Reads `fence`, if there is one. Gives up when it is not what the protocol says. */
void fence_read(struct fence *fence);

/* When the hub was last heard of, CLOCK_BOOTTIME ns. */
uint64_t fence_last_contact(const struct fence *fence);
#endif
