"""An archive is loaded from what is packed in it, in a process of its own."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from serving import archive
from serving.archive import CONTRACT, ArchiveError
from serving.hosts.trial import check_loads
from serving.settings import ROOT

FORMER = ROOT / "tests" / "support" / "training" / "former-linear-1.0.mar"
ENTRY = "tabular.py"


def with_another_class(content: bytes) -> dict[str, bytes]:
    return {ENTRY: archive.read_file(content, ENTRY) + b"\n\nclass OtherCodec:\n    pass\n"}


def with_another_answer(content: bytes) -> dict[str, bytes]:
    contract = json.loads(archive.read_file(content, CONTRACT))
    contract["example"]["response"]["prediction"] += 1
    return {CONTRACT: json.dumps(contract).encode()}


def with_a_fault(content: bytes) -> dict[str, bytes]:
    return {ENTRY: b"import no_such_package\n"}


def test_an_archive_of_ours_loads() -> None:
    check_loads(FORMER)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (with_another_class, "tabular.py must have one class, the service, beside what it imports; it has "),
        (with_another_answer, "RuntimeError: linear 1.0: answered "),
        (with_a_fault, "ModuleNotFoundError: No module named 'no_such_package'"),
    ],
)
def test_one_that_does_not_is_refused_with_the_cause(
    tmp_path: Path, change: Callable[[bytes], dict[str, bytes]], said: str
) -> None:
    path, content = tmp_path / "linear-1.0.mar", FORMER.read_bytes()
    path.write_bytes(archive.rewritten(content, change(content)))
    with pytest.raises(ArchiveError) as error:
        check_loads(path)
    assert str(error.value).startswith(f"{path} cannot be loaded: ")
    assert said in str(error.value)
