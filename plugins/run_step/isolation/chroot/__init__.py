"""The embedded sandbox: the plan's spec run by the kernel's own means, with no OCI runtime."""
