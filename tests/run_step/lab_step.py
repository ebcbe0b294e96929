"""A step of a builder that runs on the machine of a lab (see lab.py), as root or as an ordinary user."""

import as_user
from lab import WEB4, WEB6, make_fetching_rootfs
from ways import RemoteStep, isolations, made_up_host

WAYS = ["chroot", "oci"] if isolations()[-1] != "chroot" else ["chroot"]
WEB = (f"web:{WEB4}", f"web6:{WEB6}")
"""Hosts to add: the server of the lab, by name."""


class LabStep(RemoteStep):
    """The host's facts are those of the lab."""

    def __init__(self, made, directory, isolation, *, user=False):
        work = directory / "work"
        work.mkdir(parents=True, exist_ok=True)
        rootfs = directory / "rootfs"
        if not rootfs.exists():
            make_fetching_rootfs(str(rootfs))
        self.lab = made
        prefix = list(made.prefix)
        if user:
            as_user.give(str(rootfs))
            as_user.give(str(work))
            prefix += as_user.words(as_user.make_home(str(directory / "home")))
        super().__init__(str(rootfs), isolation, str(work), made_up_host(), prefix)
        self._host = {}

    def warned(self, *args, **fields):
        """The warnings of the plan and of the run."""
        result = self.run(*args, **fields)
        return [*self.warnings, *result.warnings]
