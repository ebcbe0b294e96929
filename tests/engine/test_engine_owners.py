"""The owner of --chown: numbers, and names of the image."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildfront.engine.ops.owners import find_owner
from buildfront.errors import BuildError
from run_step import Root


@pytest.fixture
def image(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(
        "root:x:0:0::/:\nbroken:x:x:7::/:\nshort:x\nuser:x:1234:1235::/:/bin/sh\nuser:x:9:9::/:\nbroken:x:5:6:::\n"
    )
    (tmp_path / "etc/group").write_text("root:x:0:\nstaff:x:50:user\n12:x:77:\n")
    return tmp_path


@pytest.mark.parametrize(
    ("text", "owner"),
    [
        ("5:6", (5, 6)),
        ("5", (5, 5)),
        ("007", (7, 7)),
        ("user", (1234, 1235)),
        ("user:staff", (1234, 50)),
        ("user:9", (1234, 9)),
        ("7:staff", (7, 50)),
        ("root", (0, 0)),
        ("5:root", (5, 0)),
        ("5:", (5, 0)),
        ("user:", (1234, 0)),
        (":staff", (0, 50)),
        (":", (0, 0)),
        ("5:12", (5, 12)),
        ("broken", (5, 6)),
        ("4294967294", (4294967294, 4294967294)),
    ],
)
def test_an_owner(image: Path, text: str, owner: tuple[int, int]) -> None:
    with Root(str(image)) as root:
        assert find_owner(root, text) == (owner, ())


@pytest.mark.parametrize(
    ("text", "owner", "warnings"),
    [
        ("none", (0, 0), ["the user 'none' is not in the image's /etc/passwd: its files belong to root"]),
        ("none:staff", (0, 50), ["the user 'none'"]),
        ("user:none", (1234, 1235), ["the group 'none' is not in the image's /etc/group: the group is 1235"]),
        ("5:none", (5, 5), ["the group 'none'"]),
        ("none:none", (0, 0), ["the user 'none'", "the group 'none'"]),
        ("short", (0, 0), ["the user 'short'"]),
        ("5:6:7", (5, 5), ["the group '6:7'"]),
    ],
)
def test_names_that_the_image_does_not_have(
    image: Path, text: str, owner: tuple[int, int], warnings: list[str]
) -> None:
    with Root(str(image)) as root:
        found, unknown = find_owner(root, text)
    assert found == owner and len(unknown) == len(warnings)
    for shown, wanted in zip(unknown, warnings, strict=True):
        assert shown.startswith(f"--chown={text}: {wanted}")


def test_an_image_without_the_files(tmp_path: Path) -> None:
    with Root(str(tmp_path)) as root:
        assert find_owner(root, "user")[0] == (0, 0)
        assert find_owner(root, "") == (None, ())


@pytest.mark.parametrize("text", ["user", "user:1", "1:staff"])
def test_a_name_where_none_can_be_looked_up(text: str) -> None:
    with pytest.raises(BuildError, match=f"--chown={text}: the name .* can't be looked up") as caught:
        find_owner(None, text)
    assert "use numbers" in caught.value.hint
    assert find_owner(None, "1:root") == ((1, 0), ())


@pytest.mark.parametrize("text", ["-1", "1:-1", "4294967295", "9" * 5000])
def test_a_number_that_is_no_id(image: Path, text: str) -> None:
    with Root(str(image)) as root, pytest.raises(BuildError, match="IDs are numbers from 0 to 4294967294"):
        find_owner(root, text)


def test_links_of_the_image_are_followed_inside_it(image: Path) -> None:
    (image / "etc/passwd").rename(image / "users")
    (image / "etc/passwd").symlink_to("/users")
    with Root(str(image)) as root:
        assert find_owner(root, "user") == ((1234, 1235), ())
    (image / "etc/passwd").unlink()
    (image / "etc/passwd").symlink_to("/proc/self/environ")
    with Root(str(image)) as root:
        assert find_owner(root, "root") == ((0, 0), ())
        assert find_owner(root, "user")[0] == (0, 0)
