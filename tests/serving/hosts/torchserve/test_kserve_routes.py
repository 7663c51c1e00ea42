"""TorchServe's class that routes KServe's protocols, with their names in it."""

import zipfile
from pathlib import Path

from serving.hosts.torchserve.kserve_routes import CLASS, naming, write_routes
from serving.hosts.torchserve.launch import torchserve_folder

JAR = torchserve_folder() / "frontend" / "model-server.jar"


def test_two_constants_differ_and_nothing_else(tmp_path: Path) -> None:
    assert write_routes(tmp_path, JAR)
    with zipfile.ZipFile(JAR) as archive:
        original = archive.read(CLASS)
    written = (tmp_path / CLASS).read_bytes()
    assert written == naming(original)
    assert len(written) == len(original)
    assert [new for old, new in zip(original, written, strict=True) if old != new] == [0x6E, 0x70]


def test_of_another_release_nothing_is_changed(tmp_path: Path) -> None:
    other = tmp_path / "other.jar"
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr(CLASS, b"another class")
    write_routes(tmp_path, JAR)
    assert not write_routes(tmp_path, other)
    assert not (tmp_path / CLASS).exists()  # what an earlier start wrote is gone
