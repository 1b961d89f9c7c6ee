/* Finding and killing processes that descend from this one. */
#ifndef HUNT_H
#define HUNT_H
#include <stddef.h>
#include <sys/types.h>

/* SIGKILLs every descendant but the `spared` children of this process and what is below those. Returns how many it could
   signal: 0 means none is left, or none that we may kill. */
size_t hunt(const pid_t *spared, size_t spared_count);
#endif
