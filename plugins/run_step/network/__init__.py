"""Networks of steps: the built-in bridge, CNI plugins, slirp4netns and pasta, behind one protocol."""
