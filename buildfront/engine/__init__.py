"""Builds a step graph: takes results from the cache and performs the other steps, at the same time where it can.

``engine`` has the entrance, :class:`buildfront.engine.engine.Engine`. It asks ``cache_lookup`` for known results and
gives the rest to the ``scheduler``, which performs operations (``ops``) with the parts of an ``active_build``:
snapshots, ``layers``, the executor, events. The engine knows no Dockerfile text and none of its listeners.
"""
