"""A store with an image, the context that it is built from, and the program."""

import os
import subprocess
import sys

import as_user

sys.path.append(os.path.join(as_user.PROJECT, "tests", "build"))
from program import BUILDFRONT

READING = (["images"], ["info"], ["inspect", "app"], ["plan", "."])
ENTRY = {"mediaType": "m", "digest": "sha256:" + "a" * 64, "size": 1}


class Place:
    """A store with the image ``app`` of one layer, and the context that it is built from."""

    def __init__(self, path):
        self.path = path
        self.root = str(path / "store")
        self.context = path / "context"
        self.context.mkdir()
        (self.context / "file").write_text("content\n")
        (self.context / "Dockerfile").write_text("FROM scratch\nCOPY file /file\nCOPY file /again\n")

    def __call__(self, *words, root=None, **more):
        """Run the program; it never shows a traceback."""
        command = [BUILDFRONT, "--root", root or self.root, *map(str, words)]
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", check=False, cwd=self.context, **more
        )
        assert "Traceback" not in done.stderr and done.returncode in (0, 1, 2, 130), done.stderr
        return done

    def build(self, *more, **other):
        return self("build", "--progress", "plain", "-t", "app", *more, ".", **other)

    def good(self, *words, **more):
        done = self(*words, **more)
        assert done.returncode == 0, done.stderr
        return done

    def fails(self, *words, says="", **more):
        done = self(*words, **more)
        assert done.returncode == 1 and "error:" in done.stderr, (done.returncode, done.stderr)
        assert says in done.stderr, done.stderr
        return done

    def works_again(self):
        done = self.build("--no-cache")
        assert done.returncode == 0, done.stderr
        done = self.build("--jobs", "1")
        assert done.returncode == 0 and "CACHED" in done.stderr, done.stderr
        assert os.listdir(f"{self.root}/tmp") == []


def catalogue(place):
    """The path of its catalogue."""
    return f"{place.root}/catalogue.sqlite"
