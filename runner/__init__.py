"""What runs beside the builds: entrypoint, step-ctl, agent."""

__version__ = "0.1.0"
