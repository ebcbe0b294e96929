"""The plugin's errors. Every one of them says what is wrong and what would make it right."""

from __future__ import annotations


class RunStepError(Exception):
    """Base of all that this package raises on purpose."""


class RequestError(RunStepError):
    """The request itself is wrong: a value is malformed, unknown or contradicts another one."""


class HostError(RunStepError):
    """The request is fine, but this machine cannot carry it out; the message says what would change that."""


class StepFailed(RunStepError):
    """The command ran and did not succeed.

    ``status`` is what a shell would report: the exit status, or 128 plus the signal's number.
    """

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status
