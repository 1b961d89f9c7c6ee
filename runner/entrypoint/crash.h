/* Named instants at which this process can be made to die; only a build with -DCRASH_POINTS, for chaos tests, has them.
   shared/crash_points.py declares the names and the environment that arms them. */
#ifndef CRASH_H
#define CRASH_H
#include <unistd.h>

#ifdef CRASH_POINTS
/* Doesn't return when the point is due. `whom` is killed: this process, or the one that waits for it to exec. */
void crash_point(const char *name, pid_t whom);
#else
#define crash_point(name, whom) ((void)0)
#endif
#endif
