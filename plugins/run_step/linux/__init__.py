"""Every system call that this package makes and Python's ``os`` does not offer.

One function a call, errno turned into OSError with the arguments in its text. Nothing is decided here.
Constants carry the header they come from. The modules import ctypes alone: they are loaded by the
supervisor, whose start is on the path of every build that runs something.
"""
