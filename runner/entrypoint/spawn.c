#include "spawn.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "complain.h"
#include "config.h"
#include "files.h"
#include "loop.h"

enum stage { STAGE_CGROUP, STAGE_CWD, STAGE_SETUP, STAGE_RECORD, STAGE_EXEC };

/* What the new process needs, and what it leaves behind for us: until it execs it runs in our memory. */
struct launch {
    const struct program *program;
    const char *file;
    int cwd;
    int joins[CGROUPS_MAX];
    size_t joins_open;
    pid_t parent;
    volatile enum stage failed_at;
    volatile int error; /* 0: it became the program */
    volatile size_t failed_cgroup;
};

__attribute__((format(printf, 3, 4)))
static void refuse(struct spawned *out, int code, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vsnprintf(out->message, sizeof out->message, format, args);
    va_end(args);
    out->pid = 0;
    out->code = code;
}

enum found { ABSENT, DENIED, RUNNABLE };

/* What `file`, relative to the step's directory, is; errno says more unless it is RUNNABLE. */
static enum found look_at(int cwd, const char *file) {
    struct stat about;
    if (fstatat(cwd, file, &about, 0) != 0) return ABSENT;
    if (S_ISREG(about.st_mode) && faccessat(cwd, file, X_OK, 0) == 0) return RUNNABLE;
    return DENIED;
}

static bool look_up_path(int cwd, const char *path, struct spawned *out) {
    switch (look_at(cwd, path)) {
    case RUNNABLE: return true;
    case DENIED: refuse(out, 126, "Can't run %s: it is not an executable file; `chmod +x` it", path); break;
    case ABSENT:
        refuse(out, 127, "Can't run %s: %s; check the path, and that an earlier step made it", path, strerror(errno));
    }
    return false;
}

/* Puts the file to execute into `found`. */
static bool look_up(const struct program *p, int cwd, char *found, size_t size, struct spawned *out) {
    const char *name = p->argv[0];
    if (strchr(name, '/')) {
        snprintf(found, size, "%s", name);
        return look_up_path(cwd, found, out);
    }
    bool denied = false;
    for (const char *at = p->search_path; *name && at;) {
        const char *colon = strchr(at, ':');
        int length = (int)(colon ? (size_t)(colon - at) : strlen(at));
        /* An empty entry means the working directory. */
        int written = snprintf(found, size, "%.*s%s%s", length, at, length ? "/" : "./", name);
        enum found what = written < (int)size ? look_at(cwd, found) : ABSENT;
        if (what == RUNNABLE) return true;
        denied |= what == DENIED;
        at = colon ? colon + 1 : NULL;
    }
    if (denied) refuse(out, 126, "Can't run %s: what PATH has by that name is not executable; `chmod +x` it", name);
    else refuse(out, 127, "Command not found: %s; install it in the step's image, or add its directory to PATH (now %.200s)",
                name, p->search_path);
    return false;
}

static _Noreturn void fail(struct launch *l, enum stage stage) {
    l->error = errno ? errno : EIO;
    l->failed_at = stage;
    _exit(127);
}

static _Noreturn void become(struct launch *l) {
    const struct program *p = l->program;
    if (setsid() < 0 || prctl(PR_SET_PDEATHSIG, p->parent_death_signal, 0, 0, 0) != 0) fail(l, STAGE_SETUP);
    if (getppid() != l->parent) _exit(127); /* it died before the line above: nobody is there to run for */
    if (p->cwd) {
        if (dup2(p->input, STDIN_FILENO) < 0 || dup2(p->output, STDOUT_FILENO) < 0 || dup2(p->output, STDERR_FILENO) < 0)
            fail(l, STAGE_SETUP);
    }
    if (p->before_exec && !p->before_exec(p->context)) fail(l, STAGE_RECORD);
    if (p->cwd && fchdir(l->cwd) != 0) fail(l, STAGE_CWD);
    for (size_t i = 0; i < l->joins_open; i++) {
        l->failed_cgroup = i;
        if (write(l->joins[i], "0", 1) != 1) fail(l, STAGE_CGROUP); /* 0: the writer */
    }
    loop_reset_signals();
    execve(l->file, p->argv, p->environment);
    fail(l, STAGE_EXEC);
}

static void explain(const struct launch *l, struct spawned *out) {
    const struct program *p = l->program;
    const char *name = p->argv[0], *why = strerror(l->error);
    switch (l->failed_at) {
    case STAGE_CGROUP: refuse(out, 126, "Can't join the cgroup %s: %s", p->cgroups[l->failed_cgroup], why); return;
    case STAGE_CWD: refuse(out, 126, "Can't enter the working directory %s: %s", p->cwd, why); return;
    case STAGE_SETUP: refuse(out, 126, "Can't prepare a process for %s: %s", name, why); return;
    case STAGE_RECORD: refuse(out, 126, "Can't record the start of %s: %s", name, why); return;
    case STAGE_EXEC: break;
    }
    if (l->error == ENOENT)
        refuse(out, 127, "Can't run %s: the interpreter or loader it names is not in the step's image", name);
    else if (l->error == ENOEXEC)
        refuse(out, 126, "Can't run %s: %s; give it a #! line, or build it for this machine", name, why);
    else if (l->error == E2BIG)
        refuse(out, 126, "Can't run %s: its arguments and environment are larger than the kernel takes; pass large values in files", name);
    else
        refuse(out, 126, "Can't run %s: %s", name, why);
}

/* Not inlined: a vfork shares this frame with the new process, so it holds nothing that changes after the fork. */
__attribute__((noinline)) static pid_t fork_and_become(struct launch *l) {
    pid_t pid = vfork();
    if (pid == 0) become(l);
    return pid;
}

static bool open_joins(struct launch *l, struct spawned *out) {
    const struct program *p = l->program;
    for (size_t i = 0; i < p->cgroup_count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "%s/cgroup.procs", p->cgroups[i]);
        int fd = open(path, O_WRONLY | O_CLOEXEC);
        if (fd < 0) {
            refuse(out, 126, "Can't join the cgroup %s: %s", p->cgroups[i], strerror(errno));
            return false;
        }
        l->joins[l->joins_open++] = fd;
    }
    return true;
}

static void launch(struct launch *l, struct spawned *out) {
    pid_t pid = fork_and_become(l);
    if (pid < 0) {
        refuse(out, 126, "Can't start a process for %s: %s", l->program->argv[0], strerror(errno));
    } else if (l->error) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {}
        explain(l, out);
    } else {
        out->pid = pid;
    }
}

void spawn(const struct program *p, struct spawned *out) {
    *out = (struct spawned){0};
    char file[4096];
    struct launch l = {.program = p, .file = file, .cwd = AT_FDCWD, .parent = getpid()};
    if (p->cwd && (l.cwd = open(p->cwd, O_PATH | O_DIRECTORY | O_CLOEXEC)) < 0) {
        refuse(out, 126, "Can't enter the working directory %s: %s; create it in an earlier step or correct `working-directory`",
               p->cwd, strerror(errno));
        return;
    }
    if (look_up(p, l.cwd, file, sizeof file, out) && open_joins(&l, out)) launch(&l, out);
    for (size_t i = 0; i < l.joins_open; i++) close(l.joins[i]);
    if (p->cwd) close(l.cwd);
}
