"""What every service speaks: facts, subjects, states, ports. Imports nothing of services, runner or overspill."""
