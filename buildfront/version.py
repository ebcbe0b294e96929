"""The version of the program. A module of its own, so that what needs it does not import the public API."""

__version__ = "0.1.0"
