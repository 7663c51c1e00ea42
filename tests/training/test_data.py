import hashlib
import sys
import zipfile
from pathlib import Path

import pytest

from training.data import DataError, check_sha256, fetched_package, package_file, sha256

SUM = hashlib.sha256(b"right").hexdigest()


def test_the_sum_of_several_contents_is_that_of_all_together() -> None:
    assert sha256(b"ri", b"ght") == SUM


def test_content_with_the_right_sum_is_returned() -> None:
    assert check_sha256(b"right", SUM, "somewhere") == b"right"


def test_content_with_another_sum_is_an_error_with_source_and_both_sums() -> None:
    with pytest.raises(DataError, match=f"^somewhere: its SHA-256 is {sha256(b'wrong')}, not {SUM}: delete it and get"):
        check_sha256(b"wrong", SUM, "somewhere")


def test_a_file_of_a_package_is_found_without_importing_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "explosive_package"
    (package / "data").mkdir(parents=True)
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    (package / "data" / "file.csv").touch()
    monkeypatch.syspath_prepend(str(tmp_path))
    assert package_file("explosive_package", "data/file.csv", "explosive") == package / "data" / "file.csv"
    assert "explosive_package" not in sys.modules


@pytest.mark.parametrize("package", ["no_such_package", "training", "ast"])
def test_a_missing_package_or_file_is_an_error_that_says_what_to_install(package: str) -> None:
    with pytest.raises(DataError, match=f"data.csv of the package {package} is not there: run `pip install it==1.0`"):
        package_file(package, "data.csv", "it==1.0")


WHEEL = "thing-1.0-py3-none-any.whl"


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that pip takes for the package index."""
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    return folder


def wheel(folder: Path) -> bytes:
    """Makes the smallest wheel that pip accepts."""
    head = "Metadata-Version: 2.1\nName: thing\nVersion: 1.0\n"
    with zipfile.ZipFile(folder / WHEEL, "w") as archive:
        archive.writestr("thing-1.0.dist-info/METADATA", head)
        archive.writestr("thing-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("thing-1.0.dist-info/RECORD", "")
    return (folder / WHEEL).read_bytes()


def test_a_packages_file_is_fetched_once_and_kept(index: Path, tmp_path: Path) -> None:
    content = wheel(index)
    cache = tmp_path / "cache"
    path = fetched_package("thing==1.0", WHEEL, sha256(content), cache)
    assert path == cache / WHEEL
    assert path.read_bytes() == content
    (index / WHEEL).unlink()
    assert fetched_package("thing==1.0", WHEEL, sha256(content), cache) == path
    assert list(cache.iterdir()) == [path]


def test_a_package_that_cannot_be_fetched_is_an_error_that_says_where_its_file_goes(
    index: Path, tmp_path: Path
) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError) as raised:
        fetched_package("thing==1.0", WHEEL, SUM, cache, "--no-binary", ":all:")
    message = str(raised.value)
    assert message.startswith(f"{WHEEL} is not here and could not be fetched (ERROR: ")
    assert "run `pip download --no-deps --no-binary :all: thing==1.0`" in message
    assert message.endswith(f"put the file into {cache}.")
    assert list(cache.iterdir()) == []


def test_a_fetched_file_with_another_sum_is_refused(tmp_path: Path) -> None:
    (tmp_path / WHEEL).write_bytes(b"altered")
    with pytest.raises(DataError, match=f"{WHEEL}: its SHA-256 is "):
        fetched_package("thing==1.0", WHEEL, SUM, tmp_path)
