#include "fence.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "clock.h"
#include "complain.h"

static uint64_t number_of(const struct blob *text, const char *key) {
    size_t length;
    const char *value = value_of(text, key, &length);
    if (!value || !isdigit((unsigned char)*value)) give_up("fence: no number %s", key);
    return strtoull(value, NULL, 10);
}

void fence_read(struct fence *fence) {
    *fence = (struct fence){0};
    if (!read_whole("fence", &fence->text)) {
        if (errno != ENOENT) give_up("can't read fence: %s", strerror(errno));
        return;
    }
    fence->up = true;
    size_t since;
    if (value_of(&fence->text, "since_boot_ns", &since)) fence->since_ns = number_of(&fence->text, "since_boot_ns");
    fence->end_ms = number_of(&fence->text, "end_ms");
    fence->kill_ms = number_of(&fence->text, "kill_ms");
    size_t length;
    const char *contact = value_of(&fence->text, "contact", &length);
    if (!contact) give_up("fence: no contact");
    fence->text.data[(size_t)(contact - fence->text.data) + length] = '\0'; /* the other values are taken already */
    fence->contact = contact;
}

uint64_t fence_last_contact(const struct fence *fence) {
    struct blob note;
    /* What can't be read is no contact: the fence may come too early, never too late. */
    if (!read_whole(fence->contact, &note)) return fence->since_ns;
    uint64_t at = isdigit((unsigned char)note.data[0]) ? strtoull(note.data, NULL, 10) : 0;
    free(note.data);
    if (at > boot_ns()) return fence->since_ns; /* written before the machine was started anew */
    return at > fence->since_ns ? at : fence->since_ns;
}
