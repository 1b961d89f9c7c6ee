/* `entrypoint install`: this binary copies itself into a volume. */
#ifndef INSTALL_H
#define INSTALL_H

/* Copies /proc/self/exe to `destination`, or into it when it is a directory. It appears whole, mode 0755. Gives up on failure. */
void install(const char *destination);
#endif
