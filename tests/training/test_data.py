import hashlib
import sys
from pathlib import Path

import pytest

from training.data import DataError, check_sha256, package_file, sha256

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
