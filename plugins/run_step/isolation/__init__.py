"""The ways to execute a plan. Both run inside a supervised child, see :mod:`run_step.supervisor`."""
