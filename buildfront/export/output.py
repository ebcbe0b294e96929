"""The grammar of ``-o``."""

from __future__ import annotations

from ..errors import BuildError, nearest
from ..options import Output

TYPES = ("oci", "docker", "local", "tar", "registry", "image")


def parse_output(text: str) -> Output:
    """Return the output that ``type=oci,dest=FILE`` describes, as :attr:`BuildOptions.outputs` takes it.

    The grammar is that of docker buildx: a bare path is ``type=local``, and ``-`` is ``type=tar`` on standard output.

    Raises:
        BuildError: The text is malformed; the message quotes it.
    """
    if "=" not in text:
        if not text:
            raise BuildError("-o is empty", hint="for instance -o type=oci,dest=image.tar")
        return Output("tar", "-") if text == "-" else Output("local", text)
    values: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or name not in ("type", "dest", "tar", "push", "name"):
            hint = (
                nearest(name, ("type", "dest", "tar", "push", "name"))
                or "known are type, dest, tar, push, name"
            )
            raise BuildError(f"-o {text!r}: {part!r} is not understood", hint=hint)
        values[name] = value
    kind = values.get("type", "")
    if kind not in TYPES:
        raise BuildError(f"-o {text!r}: unknown type {kind!r}", hint=f"known are {', '.join(TYPES)}")
    for name in ("tar", "push"):
        if values.get(name, "true") not in ("true", "false"):
            raise BuildError(f"-o {text!r}: {name} is true or false")
    if kind in ("local", "oci", "docker", "tar") and not values.get("dest"):
        raise BuildError(f"-o {text!r}: dest is missing", hint=f"write type={kind},dest=PATH")
    if kind == "local" and values["dest"] == "-":
        raise BuildError(f"-o {text!r}: a directory can't go to stdout", hint="use type=tar")
    push = kind == "registry" or values.get("push", "false") == "true"
    return Output(
        kind, values.get("dest", ""), values.get("tar", "true") == "true", push, values.get("name", "")
    )
