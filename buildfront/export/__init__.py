"""The outputs of a build: OCI layouts, docker archives, root filesystems, registries."""
