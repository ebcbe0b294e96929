"""What looks like a secret: the names of files, and the forms of well-known tokens."""

from __future__ import annotations

import fnmatch
import re

_FILES = (
    "id_rsa id_dsa id_ecdsa id_ed25519 *-key.pem *_key.pem key.pem privkey.pem *.p12 *.pfx *.kdbx .env .env.* .npmrc"
    " .pypirc .netrc _netrc .git-credentials .htpasswd terraform.tfstate credentials.json service-account*.json"
    " secrets.yml secrets.yaml"
).split()
_PATHS = (".aws/credentials", ".docker/config.json", ".kube/config")
_HARMLESS = (".example", ".sample", ".template", ".dist", ".defaults", ".pub")
_NAME = re.compile("|".join(fnmatch.translate(pattern) for pattern in _FILES), re.IGNORECASE)

_TOKEN = re.compile(
    r"\b(?:gh[pousr]_[A-Za-z0-9]{36}|github_pat_[A-Za-z0-9_]{22,255}|glpat-[A-Za-z0-9_-]{20}"
    r"|(?:AKIA|ASIA)[A-Z0-9]{16}|xox[abprs]-[A-Za-z0-9-]{10,255}|[rs]k_live_[A-Za-z0-9]{24,255}"
    r"|npm_[A-Za-z0-9]{36}|AIza[A-Za-z0-9_-]{35}|sk-ant-[A-Za-z0-9_-]{20,255}|pypi-AgEIcHlwaS[A-Za-z0-9_-]{50,1000})"
    r"(?![A-Za-z0-9])|-----BEGIN (?:[A-Z]{1,20} )?PRIVATE KEY-----"
)
_SHOWN = 8
_LONGEST = 255
"""No file has a longer name (NAME_MAX)."""


def is_secret_file(path: str) -> bool:
    """Whether a file of this name holds a secret as a rule."""
    name = path.rpartition("/")[2]
    if name.lower().endswith(_HARMLESS):
        return False
    known = len(name) <= _LONGEST and _NAME.fullmatch(name) is not None
    return known or path.lower().endswith(_PATHS)


def find_token(text: str) -> tuple[int, int, str] | None:
    """Return the place of the first token in a text, and its beginning, which is all that may be shown of it."""
    found = _TOKEN.search(text)
    if found is None:
        return None
    return found.start(), found.end(), found[0] if " " in found[0] else found[0][:_SHOWN] + "…"
