#ifndef PLAN_H
#define PLAN_H

#include <stdbool.h>
#include <stddef.h>

/* Enters the attempt directory and unpacks the plans `<plan>/<NNN>` of these steps into it. What is there already stays as
   it is. False when it is from before the machine was last started. */
bool plan_unpack(const char *plan, const char *directory, const int *steps, size_t count);

#endif
