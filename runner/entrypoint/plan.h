#ifndef PLAN_H
#define PLAN_H

#include <stddef.h>

/* Unpacks the plans `<plan>/<NNN>` of these steps into the attempt directory. What is there already stays as it is. */
void plan_unpack(const char *plan, const char *directory, const int *steps, size_t count);

#endif
