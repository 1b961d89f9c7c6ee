"""The HTTP API, version 1: one file a resource. A route reads its request, asks one thing, shows one view."""
