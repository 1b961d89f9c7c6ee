"""The command line, a file per group of commands.

The room's law: whatever is dear to import is imported inside the command that needs it, so that `--help` and completion
answer at once. A command reads options, asks the client, and gives what it got to `overspill.view`.
"""
