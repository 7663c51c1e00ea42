"""The archive: a ``.mar``, a zip that TorchServe loads. No other folder opens one or names the files in it.

It needs this repository for nothing: the handlers are packed inside.
"""

import ast
import contextlib
import functools
import io
import json
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

import handlers
from handlers.contract import ModelContract
from handlers.engine import hooks, signature
from handlers.engine.isolation import is_isolated
from serving import documents
from serving.store.faults import ArchiveError as ArchiveError

CONTRACT, CONFIG, MANIFEST = "contract.json", "model-config.yaml", "MAR-INF/MANIFEST.json"
REQUIREMENTS = "requirements.txt"
ONNX, PROGRAM = GRAPHS = ("model.onnx", "model.pt2")
KEPT = SCRIPT, SKOPS, JOBLIB = ("model.pt", "model.skops", "model.joblib")  # files that are served as they are
SIGNATURE = signature.FILE  # of a file that is served as it is, also of a program without its graph
HOOKS = hooks.FILE  # code of the model's own
WEIGHTS = "model.gguf"  # of a language model, which has no graphs
ASSETS = "assets"  # folder of the files that a codec needs
ENTRIES = "entry_points"  # folder of the handlers' package, of which an archive has one module
KINDS = ("engine", "formats", "language")  # folders of that package, of which it has what its entry point imports
APART = "engine/isolated.py"  # module of that package that only isolated models import
QUANTIZED = (".gguf", ".bin")  # weights that compression makes hardly smaller

Archive = Path | bytes  # a file, its content, or the folder that it was unpacked into


def pack(
    contract: ModelContract,
    entry_point: str,
    description: str,
    config: Mapping[str, Any],
    requirements: Sequence[str],
    files: Mapping[str, bytes],
) -> bytes:
    """Pack an archive; the same content gives the same bytes.

    All handlers are packed but those that only models of another kind run, or only isolated ones.

    Args:
        contract: complete.
        entry_point: a module of ``handlers.entry_points``.
        description: one line about the model.
        config: TorchServe's settings for the model, and the handler's under ``handler``.
        requirements: packages that a worker needs, each with its version.
        files: content of the model's own files, by their path in the archive.
    """
    source, script = Path(handlers.__file__).parent, f"{entry_point}.py"
    content = {
        MANIFEST: _manifest(contract, script, description),
        CONTRACT: documents.to_json(contract, ModelContract),
        CONFIG: _yaml(config),
        REQUIREMENTS: "".join(f"{line}\n" for line in requirements).encode(),
        # TorchServe imports the entry point by its bare name, so it stands at the top; it finds the rest as a package.
        script: (source / ENTRIES / script).read_bytes(),
        **files,
    }
    without = () if is_isolated(config.get("handler") or {}) else (source / APART,)
    needed = _needed(source, source / ENTRIES / script, without)
    content |= {f"{source.name}/{path.relative_to(source).as_posix()}": path.read_bytes() for path in needed}
    return zipped(content)


def _needed(source: Path, script: Path, without: Sequence[Path] = ()) -> Iterator[Path]:
    """List the modules that an archive gets: in ``KINDS`` those that its entry point imports, elsewhere every one.

    Args:
        without: modules that it gets in no case; what only they import is left out with them.
    """
    reached, queue = {script}, [script]
    while queue:
        for path in _imports(source, queue.pop()) - reached - {*without}:
            reached.add(path)
            queue.append(path)
    folders = {path.parent for path in reached}
    for path in sorted(source.rglob("*.py")):
        folder = path.relative_to(source).parts[0]
        is_reached = path in reached or (path.name == "__init__.py" and path.parent in folders)
        if folder != ENTRIES and (folder not in KINDS or is_reached):
            yield path


def _imports(source: Path, script: Path) -> set[Path]:
    """Find the modules of a package that one of its files imports, also those imported within functions."""
    modules = (source.parent / name.replace(".", "/") for name in _imported(script.read_bytes()))
    paths = {path for module in modules for path in (module.with_suffix(".py"), module / "__init__.py")}
    return {path for path in paths if source in path.parents and path.is_file()}


@functools.cache
def _imported(content: bytes) -> frozenset[str]:
    """Read the names that a module's source may import; cached, since parsing takes most of packing's time."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(content)):
        if isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return frozenset(names)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Return an archive of these files, in this order and without a time."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            method = zipfile.ZIP_STORED if Path(name).suffix in QUANTIZED else zipfile.ZIP_DEFLATED
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return buffer.getvalue()


def read_file(archive: Archive, name: str) -> bytes:
    """Read one file.

    Raises:
        ArchiveError: it is not there, or the archive is damaged.
    """
    try:
        if isinstance(archive, Path) and archive.is_dir():
            return (archive / name).read_bytes()
    except OSError as error:
        raise ArchiveError(str(error)) from error
    with _opened(archive) as file:
        return file.read(name)


def read_contract(archive: Archive) -> ModelContract:
    """Read the contract.

    Raises:
        ArchiveError: there is none, or it is damaged.
    """
    content = read_file(archive, CONTRACT)
    try:
        return ModelContract.from_json(content)
    except ValueError as error:
        raise ArchiveError(str(error)) from error


def read_config(archive: Archive) -> dict[str, Any]:
    """Read TorchServe's settings for the model, and the handler's under ``handler``.

    Raises:
        ArchiveError: there are none, or they are damaged.
    """
    content = read_file(archive, CONFIG)
    try:
        config = yaml.safe_load(content) or {}
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: what looks like a date and is none
        raise ArchiveError(str(error)) from error
    if not isinstance(config, dict):
        raise ArchiveError(f"{CONFIG} holds a {type(config).__name__}; it must be a mapping")
    return config


def entry_point(archive: Archive) -> str:
    """Read the name of the module of ``handlers.entry_points`` that serves an archive.

    Raises:
        ArchiveError: there is no manifest, or it names none.
    """
    content = read_file(archive, MANIFEST)
    try:
        return Path(json.loads(content)["model"]["handler"]).stem
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise ArchiveError(f"{MANIFEST} names no handler: {error}") from error


def description(archive: Archive) -> str:
    """Read the line about the model; empty where the manifest has none."""
    try:
        return str(json.loads(read_file(archive, MANIFEST)).get("description", ""))
    except (AttributeError, ValueError, RecursionError):
        return ""


def model_files(archive: Archive) -> tuple[str, ...]:
    """List the graphs, or the file that is served as it is, and what lies beside: its signature, and hooks.

    Raises:
        ArchiveError: it is damaged.
    """
    present = set(names(archive))
    files = tuple(name for name in (*GRAPHS, *KEPT) if name in present) or GRAPHS
    return (*files, *(name for name in (SIGNATURE, HOOKS) if name in present))


def names(archive: Archive) -> list[str]:
    """List the paths of the files in an archive that is not unpacked.

    Raises:
        ArchiveError: it is damaged.
    """
    with _opened(archive) as file:
        return file.namelist()


def check(path: Path) -> None:
    """Read each file once.

    Raises:
        ArchiveError: a file lacks the sum that the zip names, or the archive cannot be read.
    """
    try:
        with _opened(path) as file:
            damaged = file.testzip()
    except ArchiveError as error:
        raise ArchiveError(f"{path} cannot be read: {error}") from error
    if damaged:
        raise ArchiveError(f"{path} is damaged: {damaged}")


def has_other_handlers(path: Path) -> bool:
    """Tell whether the handlers in an archive are others than those of this installation.

    Raises:
        ArchiveError: the archive is damaged.
    """
    source = Path(handlers.__file__).parent
    with _opened(path) as file:
        packed = [info for info in file.infolist() if info.filename.startswith(f"{source.name}/")]
    own = {info.filename: source.parent / info.filename for info in packed}
    return any(not own[i.filename].is_file() or zlib.crc32(own[i.filename].read_bytes()) != i.CRC for i in packed)


def unpack(path: Path, folder: Path, *files: str) -> None:
    """Put files of an archive into a folder.

    Args:
        files: paths in the archive; ``ASSETS`` means all files in that folder. Without any, the whole archive.

    Raises:
        ArchiveError: one of the files is not there, the archive is damaged, or the folder cannot be written.
    """
    with _opened(path) as file:
        members = file.namelist()
        if missing := {*files} - {*members, ASSETS}:
            raise ArchiveError(f"{path.name} lacks {', '.join(sorted(missing))}: train the model again")
        assets = [member for member in members if ASSETS in files and member.startswith(f"{ASSETS}/")]
        file.extractall(folder, [*(name for name in files if name != ASSETS), *assets] if files else members)


def rewritten(archive: bytes, changes: Mapping[str, bytes]) -> bytes:
    """Return a copy in which some files have other content, or are new."""
    return zipped({name: read_file(archive, name) for name in names(archive) if name not in changes} | dict(changes))


def with_settings(archive: bytes, settings: Mapping[str, Any]) -> bytes:
    """Return a copy that TorchServe runs with some other settings."""
    return rewritten(archive, {CONFIG: _yaml(read_config(archive) | dict(settings))})


def with_handler(archive: bytes, handler: Path) -> bytes:
    """Return a copy that is served by another handler."""
    return rewritten(archive, {MANIFEST: _manifest_for(archive, handler.name), handler.name: handler.read_bytes()})


def handler_alone(archive: bytes, handler: Path, function: str) -> bytes:
    """Return an archive with the settings of another and a function of a handler, and without a model."""
    manifest = _manifest_for(archive, f"{handler.name}:{function}")
    config = read_file(archive, CONFIG)
    return zipped({MANIFEST: manifest, CONFIG: config, REQUIREMENTS: b"", handler.name: handler.read_bytes()})


@contextlib.contextmanager
def _opened(archive: Archive) -> Iterator[zipfile.ZipFile]:
    """Open an archive. Its reader raises nearly any error on damaged bytes: all of them become ``ArchiveError``."""
    try:
        with zipfile.ZipFile(io.BytesIO(archive) if isinstance(archive, bytes) else archive) as file:
            yield file
    except ArchiveError:
        raise
    except Exception as error:
        raise ArchiveError(str(error) or type(error).__name__) from error


def _yaml(config: Mapping[str, Any]) -> bytes:
    return yaml.safe_dump(dict(config), sort_keys=False).encode()


def _manifest(contract: ModelContract, entry_point: str, description: str) -> bytes:
    manifest = {
        "createdOn": contract.lineage.created,
        "runtime": "python",
        "archiverVersion": "marloop",
        "description": description,
        "model": {
            "modelName": contract.name,
            "modelVersion": contract.version,
            "handler": entry_point,
            "requirementsFile": REQUIREMENTS,
            "configFile": CONFIG,
        },
    }
    return json.dumps(manifest, indent=1).encode()


def _manifest_for(archive: bytes, handler: str) -> bytes:
    """Return the manifest with another handler: a file's name, with or without ``:function``."""
    manifest = json.loads(read_file(archive, MANIFEST))
    manifest["model"]["handler"] = handler
    return json.dumps(manifest).encode()
