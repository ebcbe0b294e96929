"""The result of a step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .codec import decode, encode
from .linux.children import died_of
from .option_text import size_text


@dataclass(frozen=True)
class RunResult:
    """The result of a step. ``status`` is the exit status, or minus the number of the signal that killed it.

    Times are in microseconds, sizes in bytes. ``measured`` is ``cgroup``, which counts all processes, or
    ``rusage`` if no group could be made, which counts only the command and the processes that it waited for.
    ``peak_memory`` (page cache included) and the block I/O are None if the kernel does not report them.
    ``max_rss`` is always that of the largest single process (getrusage(2)). ``oom_kills`` is the number of
    processes that the kernel killed because the step reached a memory limit, ``memory_limit``.
    """

    status: int
    wall_us: int
    user_us: int = 0
    system_us: int = 0
    max_rss: int = 0
    cancelled: bool = False
    timed_out: bool = False
    measured: str = "rusage"
    peak_memory: int | None = None
    read_bytes: int | None = None
    write_bytes: int | None = None
    oom_kills: int = 0
    memory_limit: int = 0
    warnings: tuple[str, ...] = ()

    @property
    def exit_status(self) -> int:
        """The status as a shell reports it: 128 plus the number for a death by signal."""
        return self.status if self.status >= 0 else 128 - self.status

    def describe(self) -> str:
        """Return ``exit status 3`` or ``killed by SIGKILL``, and whether the step ran out of memory."""
        if self.timed_out:
            return "stopped: the step took longer than its time limit"
        return self._how() + self._memory()

    def _how(self) -> str:
        if self.status >= 0:
            return f"exit status {self.status}"
        return died_of(-self.status)

    def _memory(self) -> str:
        if not self.oom_kills or not self.status:
            return ""
        limit = (
            f"its memory limit of {size_text(self.memory_limit)}" if self.memory_limit else "a memory limit"
        )
        count = "a process" if self.oom_kills == 1 else f"{self.oom_kills} processes"
        return f": the step ran into {limit}, and the kernel killed {count} of it"

    def to_json(self) -> dict[str, object]:
        """Return the fields as a JSON object."""
        out: dict[str, object] = encode(self)
        return out

    @classmethod
    def from_json(cls, data: Any) -> RunResult:
        """Return the result that :meth:`to_json` gave, or whose fields a result file has beside its own.

        Raises RequestError with the place of the first thing that is wrong.
        """
        if isinstance(data, dict):
            data = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        return decode(cls, data, "result")

    def usage(self) -> dict[str, int | str]:
        """Return the resource use for events and records, as JSON values; unknown values are left out."""
        names = (
            "wall_us",
            "user_us",
            "system_us",
            "max_rss",
            "peak_memory",
            "read_bytes",
            "write_bytes",
            "oom_kills",
        )
        found = {name: getattr(self, name) for name in names}
        if self.measured == "rusage":
            del found["oom_kills"]
        known: dict[str, int | str] = {name: value for name, value in found.items() if value is not None}
        return {"measured": self.measured, **known}
