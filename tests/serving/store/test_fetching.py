"""An archive is fetched whole or not at all, and into a cache that many processes share."""

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from serving.settings import ROOT
from serving.store.faults import ArchiveError, reason, shown
from serving.store.fetching import ABANDONED, PART, fetch

CONTENT = bytes(range(256)) * 4096
SHA256 = hashlib.sha256(CONTENT).hexdigest()
IMPORTS = "import sys; from serving.store.fetching import fetch; print([m for m in sys.modules if 'handlers' in m])"
FETCHER = """
import sys
from pathlib import Path
from serving.store.fetching import fetch
while not Path(sys.argv[4]).exists():
    pass
print(fetch(sys.argv[1], sys.argv[2], Path(sys.argv[3])).read_bytes() == Path(sys.argv[1]).read_bytes())
"""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "flights-1.0.mar"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "cache"


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_an_archive_is_in_the_cache_by_its_hash(source: Path, cache: Path, scheme: str) -> None:
    path = fetch(f"{scheme}{source}", SHA256, cache)
    assert path == cache / f"{SHA256}.mar"
    assert path.read_bytes() == CONTENT
    assert [file.name for file in cache.iterdir()] == [path.name]


def test_what_is_in_the_cache_is_not_fetched_again(source: Path, cache: Path) -> None:
    path = fetch(str(source), SHA256, cache)
    source.unlink()
    assert fetch(str(source), SHA256, cache) == path


def test_what_was_altered_in_the_cache_is_fetched_anew(source: Path, cache: Path) -> None:
    path = fetch(str(source), SHA256, cache)
    path.write_bytes(CONTENT[:-1])
    assert fetch(str(source), SHA256, cache).read_bytes() == CONTENT


@pytest.mark.parametrize("content", [CONTENT[:-1], CONTENT + b" ", b""], ids=["truncated", "longer", "empty"])
def test_another_file_than_was_asked_for_is_refused_and_not_kept(source: Path, cache: Path, content: bytes) -> None:
    source.write_bytes(content)
    found = hashlib.sha256(content).hexdigest()
    with pytest.raises(ArchiveError, match=rf"has {len(content):,} bytes with SHA-256 {found}, but {SHA256} was asked"):
        fetch(str(source), SHA256, cache)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("sha256", ["", "../../x", SHA256.upper(), SHA256 + "\n", SHA256[1:]])
def test_what_is_no_hash_is_refused_before_anything_is_read(source: Path, cache: Path, sha256: str) -> None:
    with pytest.raises(ArchiveError, match="is no SHA-256, which has 64 digits"):
        fetch(str(source), sha256, cache)
    assert not cache.exists()


def test_a_file_that_is_not_there_is_named(tmp_path: Path, cache: Path) -> None:
    with pytest.raises(ArchiveError, match="/none.mar cannot be fetched to .*/cache: it is not there"):
        fetch(str(tmp_path / "none.mar"), SHA256, cache)
    with pytest.raises(ArchiveError, match="cannot be fetched"):
        fetch(str(tmp_path), SHA256, cache)  # a folder
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="no archive can be kept in .*flights-1.0.mar/cache: Not a directory"):
        fetch(str(source), SHA256, source / "cache")


def test_a_scheme_that_nobody_knows_is_named_without_its_secrets(cache: Path) -> None:
    with pytest.raises(ArchiveError, match="nowhere://host/a.mar cannot be fetched: ") as caught:
        fetch("nowhere://user:password@host/a.mar?signature=secret", SHA256, cache)
    assert "password" not in str(caught.value)
    assert "secret" not in str(caught.value)
    assert shown("s3://bucket/a@b.mar") == "s3://bucket/a@b.mar"


def test_processes_that_fetch_at_once_all_get_the_whole(source: Path, cache: Path, tmp_path: Path) -> None:
    go = tmp_path / "go"
    command = [sys.executable, "-c", FETCHER, str(source), SHA256, str(cache), str(go)]
    fetchers = [subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE) for _ in range(4)]
    go.touch()
    assert [fetcher.communicate(timeout=60)[0] for fetcher in fetchers] == [b"True\n"] * 4
    assert [file.name for file in cache.iterdir()] == [f"{SHA256}.mar"]


def test_what_a_killed_process_left_goes_after_a_day(source: Path, cache: Path) -> None:
    cache.mkdir(parents=True)
    old, new = cache / f".old{PART}", cache / f".new{PART}"
    for part in (old, new):
        part.write_bytes(b"half")
    os.utime(old, (time.time() - ABANDONED - 60,) * 2)
    fetch(str(source), SHA256, cache)
    assert sorted(file.name for file in cache.iterdir()) == [new.name, f"{SHA256}.mar"]


def test_it_is_called_before_any_handlers_are_imported() -> None:
    done = subprocess.run([sys.executable, "-c", IMPORTS], cwd=ROOT, capture_output=True, check=True)
    assert done.stdout == b"[]\n"


def test_an_error_of_a_server_has_the_way_out_whatever_it_was_wrapped_in() -> None:
    class Refused(Exception):
        response = {"Error": {"Code": "RequestTimeTooSkewed"}}

    wrapped = PermissionError("no")
    wrapped.__cause__ = Refused()
    assert "clocks" in reason(wrapped)
    assert reason(ValueError("two\nlines")) == "two lines"
    assert reason(OSError(28, "No space left on device")) == "No space left on device"
