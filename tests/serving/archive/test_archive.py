"""An archive is packed, read, changed and unpacked in one module, whether it is a file, its content or a folder."""

import ast
import io
import zipfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from random import Random

import pytest

from handlers.engine import OnnxRuntimeEngine, TorchEngine
from handlers.entry_points import chat
from serving import archive
from serving.archive import ArchiveError
from serving.settings import ROOT
from tests.support.serving.stores import contract_of_doubling
from tests.test_house import PROGRAMS, tracked

CONFIG = {"minWorkers": 2, "batchSize": 64, "handler": {"max_rows": 9}}
FILES = {"model.onnx": b"graph", "model.pt2": b"program", "assets/words.txt": b"words", "weights.bin": bytes(1000)}
HANDLER = Path(__file__)  # whatever file

NAMES = {archive.CONTRACT, archive.CONFIG, archive.MANIFEST, archive.REQUIREMENTS, *archive.GRAPHS, archive.WEIGHTS}
REPLICA = "serving/hosts/ray/archive_code.py"  # may import no handlers before those of the archive
ZIPS = {  # what else is a zip
    REPLICA: "an archive",
    "serving/hosts/torchserve/kserve_routes.py": "TorchServe's jar",
    "serving/security/sbom.py": "jars",
    "training/language/weights.py": "a wheel",
    "training/recipes/sentiment.py": "a wheel",
}
LITERALS = {
    REPLICA: "its settings",
    "loadtests/bench/environments.py": "requirements.txt of a peer",
    "training/bring/files/mlflow_folder.py": "a file in a folder of MLflow",
    "loadtests/bench/tensors/bare_handler.py": "it is packed itself, and reads what it is packed with",
}


@pytest.fixture
def content() -> bytes:
    return archive.pack(contract_of_doubling(), "tabular", "doubles", CONFIG, ["numpy==2.0", "msgspec==0.1"], FILES)


@pytest.fixture
def path(content: bytes, tmp_path: Path) -> Path:
    path = tmp_path / "doubling-1.0.mar"
    path.write_bytes(content)
    return path


def test_a_file_its_content_and_its_folder_tell_the_same(content: bytes, path: Path, tmp_path: Path) -> None:
    archive.unpack(path, tmp_path / "folder")
    for form in (content, path, tmp_path / "folder"):
        assert archive.read_contract(form) == contract_of_doubling()
        assert archive.read_config(form) == CONFIG
        assert archive.entry_point(form) == "tabular"
        assert archive.read_file(form, "assets/words.txt") == b"words"
        assert archive.read_file(form, archive.REQUIREMENTS) == b"numpy==2.0\nmsgspec==0.1\n"
        with pytest.raises(ArchiveError, match=r"absent\.txt"):
            archive.read_file(form, "absent.txt")


def damages(content: bytes) -> Iterator[bytes]:
    """The bytes with a bit changed, with a run of zeros, or cut off, at places all over them."""
    random = Random(7)
    for _ in range(400):
        at = random.randrange(len(content))
        yield content[:at] + bytes([content[at] ^ 1 << random.randrange(8)]) + content[at + 1 :]
    for _ in range(100):
        at = random.randrange(len(content))
        yield content[:at] + bytes(16) + content[at + 16 :]
        yield content[:at]
    # What a reader is told by the directory at the end decides most of what it does.
    for at in range(max(0, len(content) - 400), len(content)):
        yield content[:at] + bytes([content[at] ^ 0x55]) + content[at + 1 :]


def test_whatever_is_damaged_is_an_error_of_an_archive_and_nothing_else(tmp_path: Path) -> None:
    files = {
        archive.CONTRACT: contract_of_doubling().to_json(),
        archive.CONFIG: b"minWorkers: 1\nhandler: {max_rows: 9}\n",
        archive.MANIFEST: b'{"model": {"handler": "tabular.py"}}',
        "weights.bin": bytes(range(256)),
    }
    damaged, refused = tmp_path / "damaged.mar", 0
    for number, content in enumerate(damages(archive.zipped(files))):
        damaged.write_bytes(content)
        readers: list[Callable[[], object]] = [
            partial(read, form)
            for form in (content, damaged)
            for read in (archive.read_contract, archive.read_config, archive.entry_point, archive.names)
        ]
        readers += [partial(archive.check, damaged), partial(archive.unpack, damaged, tmp_path / str(number % 2))]
        for read in readers:
            try:
                read()
            except ArchiveError as error:
                refused += bool(str(error))
    assert refused > 1000


@pytest.mark.parametrize(
    "manifest", [b"", b"{}", b"[]", b'{"model": 1}', b'{"model": {"handler": 1}}', b"[" * 100_000, b"\xff"]
)
def test_a_manifest_that_names_no_handler_is_said(manifest: bytes) -> None:
    with pytest.raises(ArchiveError, match="names no handler"):
        archive.entry_point(archive.zipped({archive.MANIFEST: manifest}))


@pytest.mark.parametrize("config", [b"a: [", b"[1]", b"a: 2001-99-99", b"{" * 5000, b"\xff", b"\0"])
def test_settings_that_are_none_are_said(config: bytes) -> None:
    with pytest.raises(ArchiveError):
        archive.read_config(archive.zipped({archive.CONFIG: config}))


def test_weights_are_stored_as_they_are_and_all_else_is_compressed(content: bytes) -> None:
    with zipfile.ZipFile(io.BytesIO(content)) as file:
        assert file.getinfo("weights.bin").compress_type == zipfile.ZIP_STORED
        assert file.getinfo("model.onnx").compress_type == zipfile.ZIP_DEFLATED


def test_some_files_are_unpacked_and_one_that_is_not_there_is_named(path: Path, tmp_path: Path) -> None:
    archive.unpack(path, tmp_path / "some", archive.ONNX, archive.ASSETS)
    unpacked = {str(file.relative_to(tmp_path / "some")) for file in (tmp_path / "some").rglob("*") if file.is_file()}
    assert unpacked == {"model.onnx", "assets/words.txt"}
    with pytest.raises(ArchiveError, match=r"^doubling-1\.0\.mar lacks model\.gguf: train the model again$"):
        archive.unpack(path, tmp_path / "none", archive.WEIGHTS, archive.ASSETS)


def test_other_settings_change_nothing_else(content: bytes) -> None:
    changed = archive.with_settings(content, {"batchSize": 1})
    assert archive.read_config(changed) == CONFIG | {"batchSize": 1}
    assert sorted(archive.names(changed)) == sorted(archive.names(content))
    for name in set(archive.names(content)) - {archive.CONFIG}:
        assert archive.read_file(changed, name) == archive.read_file(content, name)


def test_another_handler_serves_the_same_model_or_none(content: bytes) -> None:
    changed = archive.with_handler(content, HANDLER)
    assert archive.entry_point(changed) == HANDLER.stem
    assert archive.read_file(changed, HANDLER.name) == HANDLER.read_bytes()
    assert archive.read_file(changed, "model.onnx") == b"graph"
    alone = archive.handler_alone(content, HANDLER, "handle")
    assert set(archive.names(alone)) == {archive.MANIFEST, archive.CONFIG, archive.REQUIREMENTS, HANDLER.name}
    assert f'"{HANDLER.name}:handle"'.encode() in archive.read_file(alone, archive.MANIFEST)
    assert archive.read_config(alone) == CONFIG


@pytest.mark.parametrize("damage", [b"", b"no zip"])
def test_what_is_no_archive_is_an_error(path: Path, damage: bytes) -> None:
    path.write_bytes(damage)
    with pytest.raises(ArchiveError):
        archive.read_contract(path)
    with pytest.raises(ArchiveError, match=f"^{path} cannot be read: "):
        archive.check(path)


def test_a_file_that_lost_a_bit_is_named(path: Path, content: bytes) -> None:
    archive.check(path)
    at = content.index(bytes(1000))  # the weights
    path.write_bytes(content[:at] + b"\1" + content[at + 1 :])
    with pytest.raises(ArchiveError, match=rf"^{path} is damaged: weights\.bin$"):
        archive.check(path)


@pytest.mark.parametrize("config", [b"[1]", b"{", b"\xff"])
def test_settings_that_are_no_mapping_are_an_error(content: bytes, config: bytes) -> None:
    with pytest.raises(ArchiveError):
        archive.read_config(archive.rewritten(content, {archive.CONFIG: config}))


def test_handlers_open_the_files_that_are_packed() -> None:
    assert (OnnxRuntimeEngine.graph, TorchEngine.graph) == archive.GRAPHS
    assert chat.MODEL == archive.WEIGHTS


def test_no_other_folder_opens_a_zip_or_names_an_archives_files() -> None:
    """Handlers name what they are packed with: they import nothing else of the project."""
    rooms = ("serving/", "training/", "monitoring/", "loadtests/")
    for module in tracked():
        if not (module.endswith(".py") and module.startswith(rooms)) or module.startswith(PROGRAMS):
            continue
        if module.startswith("serving/archive/"):
            continue
        for node in ast.walk(ast.parse((ROOT / module).read_text())):
            if isinstance(node, ast.Import | ast.ImportFrom):
                imported = {getattr(node, "module", None), *(alias.name for alias in node.names)}
                assert "zipfile" not in imported or module in ZIPS, f"{module} imports zipfile"
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value in NAMES:
                assert module in LITERALS, f"{module} names {node.value}"
