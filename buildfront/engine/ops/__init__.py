"""The operations of a graph, one module each: what it reads, the parts of its key, and how it is performed.

All of them have the protocol :class:`buildfront.engine.operation.Operation`; ``table`` finds the one of a step.
"""
