"""The embedded sandbox: run the plan's spec directly with system calls, without an OCI runtime."""
