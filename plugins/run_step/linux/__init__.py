"""The system calls that this package makes and Python's ``os`` does not offer.

There is one function for each call. errno becomes an OSError with the arguments in its text. The module makes
no decisions. Constants name the header that they come from. The modules import only ctypes: the supervisor
loads them, and its start is on the path of every build that runs something.
"""
