/* What a step made is its user's alone where its mode says so; step-ctl, another user, stores it as an artifact. */
#ifndef SHARE_H
#define SHARE_H
#include "config.h"

/* After a step, for each `share` of its config: what this process' user owns there may be read by the attempt
   directory's group. No link is followed, and nothing of another user is touched. */
void share(const struct config *config);
#endif
