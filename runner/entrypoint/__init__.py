"""The entrypoint: a small static C program that runs an attempt's steps. `build.binary()` finds or builds it."""
