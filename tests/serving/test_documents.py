"""What is written can be read again."""

import errno
import math
import os
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from serving import documents
from serving.documents import DocumentError, write_atomically


class Run(msgspec.Struct):
    """One of the files that are read by a type."""

    seconds: float
    curve: list[float] = []


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(VALUES)
@settings(max_examples=200)
def test_whatever_can_be_written_is_the_same_when_it_is_read(value: Any) -> None:
    content = documents.to_json(value)
    assert documents.from_json(content) == documents.finite(value)
    assert b"NaN" not in content.replace(b'"', b"") or "NaN" in str(value)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, np.float32("nan"), np.float64("inf")])
def test_what_is_no_finite_number_becomes_null(value: float) -> None:
    assert documents.finite({"a": [value, (1, value)]}) == {"a": [None, [1, None]]}


def test_numbers_of_numpy_and_large_ones_are_kept() -> None:
    value = {"i": np.int64(2**62), "u": np.uint64(2**64 - 1), "big": 2**200, "b": np.bool_(True), 7: 5e-324}
    assert documents.from_json(documents.to_json(value)) == {
        "i": 2**62,
        "u": 2**64 - 1,
        "big": 2**200,
        "b": True,
        "7": 5e-324,
    }


def test_what_its_type_does_not_take_is_not_written_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "run.json"
    documents.write_json(path, Run(1.0, [2.0]), Run)
    with pytest.raises(
        DocumentError, match=r"run\.json is not written: .*Expected `float`, got `null` - at `\$\.curve"
    ):
        documents.write_json(path, Run(1.0, [math.nan]), Run)
    assert documents.read_json(path, Run) == Run(1.0, [2.0])
    assert [one.name for one in tmp_path.iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ({"a": ["b", "\udc80"]}, r"\$\.a\[1\] is '\\udc80', which has half of a surrogate pair"),
        ({"\ud800": 1}, "half of a surrogate pair"),
        ({"a": b"bytes and" and object()}, r"\$\.a is a object, which JSON cannot hold"),
        ({1.5: 0}, "has the key 1.5, which is no text"),
    ],
)
def test_what_no_file_can_hold_is_refused_with_its_place(value: Any, reason: str) -> None:
    with pytest.raises(DocumentError, match=reason):
        documents.to_json(value)


def test_what_is_nested_too_deeply_is_refused() -> None:
    value: list[Any] = []
    for _ in range(5000):
        value = [value]
    with pytest.raises(DocumentError, match="nested too deeply"):
        documents.to_json(value)


def test_a_field_that_the_type_would_lose_is_named() -> None:
    with pytest.raises(DocumentError, match=r"\$\.colour is lost"):
        documents.to_json({"seconds": 1.0, "curve": [], "colour": "red"}, Run)


@pytest.mark.parametrize("content", [b"", b"{", b'{"seconds": "a"}', b"\xff", b'{"seconds": NaN', b'{"seconds": NaN}'])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "run.json"
    path.write_bytes(content)
    with pytest.raises(DocumentError, match=r"run\.json is damaged: "):
        documents.read_json(path, Run)


def test_a_name_of_255_bytes_can_be_written(tmp_path: Path) -> None:
    path = tmp_path / ("é" * 125 + ".json")
    write_atomically(path, b"new")
    assert path.read_bytes() == b"new"


def test_a_link_stays_one_and_what_it_points_to_is_replaced(tmp_path: Path) -> None:
    target, link = tmp_path / "shared" / "registry.json", tmp_path / "registry.json"
    target.parent.mkdir()
    target.write_bytes(b"old")
    link.symlink_to(target)
    write_atomically(link, b"new")
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_a_root_that_changes_a_file_leaves_it_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    os.chown(path, 10001, 10001)
    write_atomically(path, b"new", private=True)
    assert (path.stat().st_uid, path.stat().st_gid) == (10001, 10001)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is full")
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    opened = os.open

    def full(name: str | Path, flags: int, *mode: int) -> int:
        return opened("/dev/full", os.O_WRONLY) if flags & os.O_CREAT else opened(name, flags, *mode)

    monkeypatch.setattr(os, "open", full)
    monkeypatch.setattr(os, "fchmod", lambda *given: None)
    monkeypatch.setattr(os, "fchown", lambda *given: None)
    with pytest.raises(OSError, match="No space left") as raised:
        write_atomically(path, b"x" * 100_000)
    assert raised.value.errno == errno.ENOSPC
    assert path.read_bytes() == b"old"
