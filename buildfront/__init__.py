"""buildfront: a Dockerfile builder with no daemon. :mod:`buildfront.build` is what programs call."""

__version__ = "0.1.0"
