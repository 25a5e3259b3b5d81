/* escape: ways out of a process that has been taken over, each a few lines of its own; a table per kind.
 * Used by escape.c, which tries every one with and without the sandbox. One thread. What an escape makes or
 * spoils lies in the scene's directory, or is its victim, or the process that tries it. */
#pragma once
#include <stddef.h>
#include <sys/types.h>

struct scene {
    char dir[256];  /* made for this escape alone, with "file", "other", "sub" and "link" in it; the present
                       directory */
    pid_t victim;   /* a process of the same user that sleeps */
    int socket;     /* the one that the sandbox allows */
    int fd, second; /* what prepare leaves for attempt */
    void *map;
};

struct escape {
    const char *name;
    long (*prepare)(struct scene *s); /* before the sandbox is entered; may be NULL */
    long (*attempt)(struct scene *s); /* negative: it failed, and errno says how */
};

/* A function of one expression. */
#define ESCAPE(name, expression)      \
    static long name(struct scene *s) \
    {                                 \
        (void)s;                      \
        return (long)(expression);    \
    }

extern const struct escape file_escapes[], process_escapes[], memory_escapes[], message_escapes[];
extern const size_t file_escape_count, process_escape_count, memory_escape_count, message_escape_count;
