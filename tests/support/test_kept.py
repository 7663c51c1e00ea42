from pathlib import Path

import pytest

from tests.support.kept import keep, sources


class Maker:
    """Writes a file, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, folder: Path) -> None:
        self.count += 1
        (folder / "file").write_text(str(self.count))


def test_it_is_made_once_and_anew_for_another_key(tmp_path: Path) -> None:
    make = Maker()
    contents = [keep("kind", key, "name", make, tmp_path) / "file" for key in ("a", "a", "b", "a")]
    assert [content.read_text() for content in contents] == ["1", "1", "2", "1"]


def test_the_key_that_was_asked_for_least_recently_goes(tmp_path: Path) -> None:
    make = Maker()
    first, second = (keep("kind", key, "name", make, tmp_path) for key in ("a", "b"))
    keep("kind", "a", "name", make, tmp_path)
    third = keep("kind", "c", "name", make, tmp_path)
    assert [path.exists() for path in (first, second, third)] == [True, False, True]


def test_what_was_not_made_whole_is_made_again(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        (folder / "half").touch()
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        keep("kind", "a", "name", fail, tmp_path)
    assert [path.name for path in keep("kind", "a", "name", Maker(), tmp_path).iterdir()] == ["file"]


def test_the_hash_of_the_sources_is_the_same_in_every_process() -> None:
    assert sources() == sources.__wrapped__()
    assert len(sources()) == 16
