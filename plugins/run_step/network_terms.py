"""Names and addresses on which plans and networks agree: pipeline stages write them, and networks fill them in."""

from __future__ import annotations

USER_MODE = ("slirp4netns", "pasta")
"""Networks in user space, which an unprivileged process serves, in the order of preference."""

ADDRESS, GATEWAY = "@address@", "@gateway@"
"""Placeholders in /etc/hosts of a plan: the step's address, and the machine's in the step's network.

They are known when the network is made. A line with a placeholder is written once for each address, and is left out if
there is none."""

USER_ADDRESS, USER_GATEWAY, USER_RESOLVER, USER_PREFIX = "10.0.2.100", "10.0.2.2", "10.0.2.3", 24
"""The addresses that slirp4netns gives to a namespace (slirp4netns(1)); pasta is asked for the same."""

CNI_CONFIG_DIRS = ("/etc/cni/net.d",)
CNI_PLUGIN_DIRS = ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni")
"""Where networks and plugins are, unless the request says so: the places of distributions and of the CNI project."""
