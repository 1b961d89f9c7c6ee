"""What runs beside the builds: entrypoint, step-ctl, agent."""
