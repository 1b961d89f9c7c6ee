/* One try of a step's command, from its start until nothing of it is left. */
#ifndef TRY_H
#define TRY_H
#include "log.h"
#include "step.h"

/* Why we end a command that would not end of itself. */
enum ending { NOT_ENDING, ENDING_TIMEOUT, ENDING_CANCEL, ENDING_NOT_READY, ENDING_FINISHED };

struct step {
    struct run *run;
    int number;
    const struct config *config;
    char **argv, **probe, **environment; /* probe: NULL when the step is ready at once */
    const char *search_path;
    struct log log;
    void (*on_ready)(void *);
    void *context;
    struct container_memory before;

    /* Of the current try: */
    int pipe;            /* -1 once its writers are gone */
    enum ending ending;
    uint64_t timeout_at, kill_at, ready_by, probe_at; /* monotonic ns, NEVER when not set */
    bool ready;
    char probe_said[160]; /* how the last readiness command ended */
};

/* Fills state, code, signal, killed_for, went_well, tries and message of `outcome`. */
void try_run(struct step *step, struct outcome *outcome);
#endif
