"""An archive from elsewhere is read within limits, or refused in a sentence; one that lies in the store is told of."""

import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from serving.archive import limits
from serving.archive.foreign import read_foreign, strays
from serving.registry import ArchiveError, Registry
from tests.support.serving.stores import add
from tests.support.training.foreign import ADDER, MANIFEST, adder, manifest, save


def test_its_files_and_settings_are_read(tmp_path: Path) -> None:
    files = {"adder.py": ADDER, "batches.yaml": "batchSize: 8\nminWorkers: two\nown: [1]\n"}
    path = save(tmp_path / "a.mar", files | {MANIFEST: manifest("adder.py:handle", configFile="batches.yaml")})
    archive = read_foreign(path)
    assert (archive.about.model_name, archive.about.model_version) == ("adder", "2.1")
    assert archive.files["adder.py"] == ADDER.encode()
    assert archive.settings == {"batchSize": 8}


def cut(path: Path) -> None:
    adder(path)
    path.write_bytes(path.read_bytes()[:-40])


def flipped(path: Path) -> None:
    """A zip whose first file is not what its sum says."""
    content = bytearray(save(path, {"adder.py": ADDER, MANIFEST: manifest("adder.py")}).read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)


def bomb(path: Path) -> None:
    save(path, {MANIFEST: manifest("adder.py"), "adder.py": ADDER, "zeros": bytes(3 << 20)})


def twice(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("adder.py", ADDER)
        with pytest.warns(UserWarning, match="Duplicate name"):
            file.writestr("adder.py", ADDER)


def of(name: str, content: bytes | str = b"", about: bytes | None = None) -> Callable[[Path], object]:
    """An archive of an adder with one file more, or with another manifest."""

    def write(path: Path) -> None:
        save(path, {"adder.py": ADDER, MANIFEST: about or manifest("adder.py"), name: content})

    return write


BAD: list[tuple[str, Callable[[Path], object], str]] = [
    ("no zip", lambda path: path.write_bytes(b"none"), "cannot be read: File is not a zip file"),
    ("truncated", cut, "cannot be read: "),
    ("damaged", flipped, "cannot be read: "),
    ("bomb", bomb, "would become 3 files of [0-9,]+ bytes from [0-9,]+: no model is packed so"),
    ("parent", of("../evil.py"), "names '../evil.py', a file outside itself"),
    ("absolute", of("/etc/evil"), "names '/etc/evil', a file outside itself"),
    ("backslash", of("..\\evil.py"), "a file outside itself"),
    ("drive", of("C:/evil.py"), "a file outside itself"),
    ("twice", twice, "has a file twice: adder.py"),
    ("no manifest", lambda path: save(path, {"adder.py": ADDER}), "has no MAR-INF/MANIFEST.json"),
    ("no JSON", of("x", about=b"{"), "is no manifest of TorchServe's: Input data was truncated"),
    ("no handler", of("x", about=b'{"model": {}}'), "missing required field `handler`"),
    ("Java", of("x", about=b'{"runtime": "java", "model": {"handler": "a"}}'), "its runtime is java"),
    (
        "no file",
        of("x", about=manifest("other.py")),
        "its handler 'other.py' is no file in it, nor .*image_clas",
    ),
    ("requirements", of("x", about=manifest("adder.py", requirementsFile="r.txt")), "names r.txt, which is not in it"),
    ("config", of("c.yaml", "a: [", manifest("adder.py", configFile="c.yaml")), "its configuration is no YAML"),
    ("list", of("c.yaml", "[1]", manifest("adder.py", configFile="c.yaml")), "its configuration is a list"),
]


@pytest.mark.parametrize(("write", "expected"), [row[1:] for row in BAD], ids=[row[0] for row in BAD])
def test_a_bad_archive_gets_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: Callable[[Path], object], expected: str
) -> None:
    monkeypatch.setattr(limits, "USUAL_BYTES", 1 << 20)  # else the bomb of this test would be a large one
    write(tmp_path / "bad.mar")
    with pytest.raises(ArchiveError, match=expected):
        read_foreign(tmp_path / "bad.mar")
    assert [path.name for path in tmp_path.rglob("*")] == ["bad.mar"]


def test_an_archive_of_marloop_is_no_foreign_one(tmp_path: Path) -> None:
    own = json.dumps({"archiverVersion": "marloop", "model": {"handler": "tabular.py"}}, indent=1)
    save(tmp_path / "own.mar", {"contract.json": "{}", "tabular.py": "", MANIFEST: own})
    with pytest.raises(ArchiveError, match="was packed by Marloop: it comes in with its store"):
        read_foreign(tmp_path / "own.mar")


def test_one_that_lies_in_the_store_is_told_of_with_the_way_in(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    add(registry)
    assert list(strays(registry)) == []
    adder(tmp_path / "legacy.mar")
    (tmp_path / "half.mar").write_bytes(b"PK")  # is being copied
    (sentence,) = strays(registry)
    assert "legacy.mar is not served" in sentence
    assert f"`marloop import {tmp_path / 'legacy.mar'} --name NAME --trust --example REQUEST_FILE`" in sentence
