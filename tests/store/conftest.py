"""What the tests of stores that are damaged or full have in common."""

import pytest
from store_place import Place


@pytest.fixture
def place(tmp_path):
    made = Place(tmp_path)
    done = made.build("--jobs", "1")
    assert done.returncode == 0, done.stderr
    return made
