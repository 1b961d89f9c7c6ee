/* What a step used: from its own cgroup when it has one, else from what the kernel tells of reaped processes. */
#ifndef USAGE_H
#define USAGE_H
#include <stdbool.h>
#include <stdint.h>

#include "children.h"
#include "config.h"

struct usage {
    uint64_t user_us, system_us, peak_bytes, oom_kills, limit_bytes; /* limit: of its memory, 0 when none is known */
    bool from_cgroup;
};

/* What the group of the container that we are alone in told before a step: its counters are those of all its steps. */
struct container_memory {
    bool known;
    uint64_t peak_bytes, oom_kills;
};

struct container_memory usage_of_container(void);

/* What the step has used so far, over all its tries. `before`: unknown unless we are alone in a container. */
struct usage usage_read(const struct config *config, const struct children *children, const struct container_memory *before);
#endif
