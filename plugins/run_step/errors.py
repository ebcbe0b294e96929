"""The errors of the plugin. Each one says what is wrong and what would make it right."""

from __future__ import annotations


class RunStepError(Exception):
    """The base class of every error that this package raises on purpose."""


class RequestError(RunStepError):
    """The request itself is wrong: a value is malformed, unknown or contradicts another one."""


class HostError(RunStepError):
    """The request is fine, but this machine cannot carry it out; the message says what would change that."""
