"""The functions behind ``import buildfront``. Each puts the rooms below together and returns plain data.

Callers use the names of :mod:`buildfront`, which imports these modules when a name is first used. They lie in a room
of their own because an attribute of a package can't be both a submodule and a function: ``buildfront.build`` is the
function, and the module is ``buildfront.api.build``.
"""
