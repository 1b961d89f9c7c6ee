"""The command line, the client, and `overspill up`."""
