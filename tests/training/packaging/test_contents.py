import ast
import importlib.metadata
import io
import json
import sys
import zipfile
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml

import handlers
from handlers.contract import ModelContract
from handlers.entry_points.image import ImageService
from handlers.entry_points.tabular import TabularService
from handlers.entry_points.text import TextService
from handlers.service import Service
from serving.archive import ENTRIES, KINDS
from tests.support.training.quadrants import Quadrants
from training import recipes
from training.packaging.contents import CHAT, build, codec_of, model_config, pack
from training.packaging.registration import Result
from training.recipe import Recipe, Serving

SOURCE = Path(handlers.__file__).parent
DISTRIBUTIONS = {"prometheus_client": "prometheus-client", "PIL": "pillow"}  # of modules that are called otherwise

APART = {f"handlers/engine/{name}.py" for name in ("isolated", "child", "messages")}  # what isolates a model

ESTIMATORS = {"sklearn", "pandas", "skops", "joblib"}  # of the engine `python`: its archives' signature asks for them


@pytest.fixture
def graphs(tmp_path: Path) -> Path:
    for name in ("model.onnx", "model.pt2", "model.onnx.data"):
        (tmp_path / name).write_bytes(name.encode())
    return tmp_path


@pytest.fixture
def contract(quadrants: Result) -> ModelContract:
    return quadrants.contract


class Pictures(Quadrants):
    """A recipe with the other entry point, and other settings."""

    name = "pictures"
    entry_point = "image"
    serving = Serving("torch", workers=2, batch_size=8, max_batch_delay=5, response_timeout=9, max_rows=16, threads=3)


class Texts(Quadrants):
    """A recipe of texts, whose archive holds a tokenizer."""

    name = "texts"
    entry_point = "text"


RECIPES: dict[str, Recipe[Any]] = {"tabular": Quadrants(), "image": Pictures(), "text": Texts()}


@pytest.fixture(params=list(RECIPES))
def archive(request: pytest.FixtureRequest, contract: ModelContract, graphs: Path) -> zipfile.ZipFile:
    """An archive of each entry point that has graphs; that of texts has an asset."""
    recipe = RECIPES[request.param]
    if request.param == "text":
        pytest.importorskip("tokenizers", reason="tokenizers is not installed: pip install -e '.[sentiment]'")
        (graphs / "assets").mkdir()
        (graphs / "assets" / "tokenizer.json").write_bytes(b"{}")
    content = build(recipe, msgspec.structs.replace(contract, name=recipe.name), graphs, recipe.serving)
    return zipfile.ZipFile(io.BytesIO(content))


def entry_point(archive: zipfile.ZipFile) -> str:
    return str(json.loads(archive.read("MAR-INF/MANIFEST.json"))["model"]["handler"])


def imported(source: bytes) -> set[str]:
    """The modules that a file imports, wherever in it, and what it imports from them, which may be modules too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "TorchServe imports the entry point without a package"
            found |= {str(node.module), *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def files_of(module: str) -> set[str]:
    """Where a module may lie."""
    path = module.replace(".", "/")
    return {f"{path}.py", f"{path}/__init__.py"}


def reached(archive: zipfile.ZipFile, file: str) -> set[str]:
    """The modules that a file imports, and those that these import from the archive."""
    found: set[str] = set()
    left, members = {file}, {*archive.namelist()}
    while left:
        for module in imported(archive.read(left.pop())) - found:
            found.add(module)
            if module.partition(".")[0] == "handlers":
                files = files_of(module) & members
                parent = files_of(module.rpartition(".")[0])
                assert files or parent & (members | APART), module
                left |= files
    return found


def handlers_of(archive: zipfile.ZipFile) -> set[str]:
    """The handlers' modules that an archive should hold: all but those that only models of another kind run.

    None of these models is isolated.
    """
    everything = {
        f"handlers/{path.relative_to(SOURCE)}" for path in SOURCE.rglob("*.py") if path.parent.name != ENTRIES
    }
    own = {file for module in reached(archive, entry_point(archive)) for file in files_of(module)}
    folders = {path.rpartition("/")[0] for path in own & everything}
    own |= {f"{folder}/__init__.py" for folder in folders}
    return {path for path in everything if path.split("/")[1] not in KINDS or path in own} - APART


def test_it_holds_graphs_contract_settings_and_the_handlers(archive: zipfile.ZipFile) -> None:
    expected = {
        "MAR-INF/MANIFEST.json",
        "contract.json",
        "model-config.yaml",
        "requirements.txt",
        "model.onnx",
        "model.pt2",
        entry_point(archive),
    }
    assets = {"assets/tokenizer.json"} if entry_point(archive) == "text.py" else set()
    assert set(archive.namelist()) == expected | handlers_of(archive) | assets
    assert not any("/language/" in name for name in archive.namelist())
    assert ("handlers/formats/pictures.py" in archive.namelist()) == (entry_point(archive) == "image.py")
    assert ("handlers/formats/tokens.py" in archive.namelist()) == (entry_point(archive) == "text.py")
    assert len(archive.namelist()) == len(set(archive.namelist()))
    assert archive.testzip() is None


@pytest.mark.parametrize(
    ("serving", "has_it"),
    [(Serving(), False), (Serving("torch"), False), (Serving(isolated=True), True), (Serving("torchscript"), True)],
)
def test_only_the_archive_of_an_isolated_model_holds_what_isolates_it(
    contract: ModelContract, graphs: Path, serving: Serving, has_it: bool
) -> None:
    archive = zipfile.ZipFile(io.BytesIO(build(Quadrants(), contract, graphs, serving)))
    assert APART & set(archive.namelist()) == (APART if has_it else set())
    assert "handlers/engine/isolation.py" in archive.namelist()


def test_files_are_packed_as_they_are(archive: zipfile.ZipFile, graphs: Path) -> None:
    for name in ("model.onnx", "model.pt2"):
        assert archive.read(name) == (graphs / name).read_bytes()
    assert archive.read("handlers/handler.py") == (SOURCE / "handler.py").read_bytes()
    assert archive.read(entry_point(archive)) == (SOURCE / ENTRIES / entry_point(archive)).read_bytes()


def test_the_manifest_names_model_version_entry_point_and_files(archive: zipfile.ZipFile) -> None:
    manifest = json.loads(archive.read("MAR-INF/MANIFEST.json"))
    contract = ModelContract.from_json(archive.read("contract.json"))
    entry = {"pictures": "image.py", "texts": "text.py", "quadrants": "tabular.py"}[contract.name]
    assert manifest["runtime"] == "python"
    assert manifest["createdOn"] == contract.lineage.created
    assert manifest["description"] == "quadrants of the plane"
    assert manifest["model"] == {
        "modelName": contract.name,
        "modelVersion": "1.0",
        "handler": entry,
        "requirementsFile": "requirements.txt",
        "configFile": "model-config.yaml",
    }
    assert {manifest["model"][key] for key in ("handler", "requirementsFile", "configFile")} <= set(archive.namelist())


def test_the_settings_are_those_of_the_recipe() -> None:
    assert model_config(Pictures.serving) == {
        "minWorkers": 2,
        "maxWorkers": 2,
        "batchSize": 8,
        "maxBatchDelay": 5,
        "responseTimeout": 9,
        "handler": {"engine": "torch", "max_rows": 16, "threads": 3},
    }


def test_the_settings_in_the_archive_are_the_recipes(archive: zipfile.ZipFile) -> None:
    recipe = RECIPES[Path(entry_point(archive)).stem]
    assert yaml.safe_load(archive.read("model-config.yaml")) == model_config(recipe.serving)


def test_the_defaults_are_one_worker_of_onnx_runtime_that_batches() -> None:
    settings = model_config(Serving())
    assert (settings["minWorkers"], settings["maxWorkers"]) == (1, 1)
    assert settings["batchSize"] > 1
    assert settings["handler"] == {"engine": "onnxruntime", "max_rows": 1024, "threads": None}


def test_requirements_are_pinned_to_the_installed_versions_without_a_local_part(archive: zipfile.ZipFile) -> None:
    lines = archive.read("requirements.txt").decode().splitlines()
    pinned = dict(line.split("==") for line in lines)
    assert {"msgspec", "orjson", "numpy", "onnxruntime", "torch"} <= pinned.keys()
    assert ("pillow" in pinned) == (entry_point(archive) == "image.py")
    assert ("tokenizers" in pinned) == (entry_point(archive) == "text.py")
    for name, version in pinned.items():
        assert version == importlib.metadata.version(name).split("+")[0]


def test_the_entry_file_has_exactly_one_class_as_torchserve_wants(archive: zipfile.ZipFile) -> None:
    tree = ast.parse(archive.read(entry_point(archive)))
    assert sum(isinstance(node, ast.ClassDef) for node in ast.walk(tree)) == 1
    assert not any(isinstance(node, ast.FunctionDef) and node.name == "handle" for node in tree.body)


def test_the_packed_code_imports_nothing_of_torchserve_or_of_this_repository(archive: zipfile.ZipFile) -> None:
    for name in archive.namelist():
        assert "torchserve_handler" not in name
        if name.endswith(".py"):
            roots = {module.partition(".")[0] for module in imported(archive.read(name))}
            assert not roots & {"ts", "training", "serving", "tests"}, name


def test_what_the_entry_file_imports_is_in_the_archive_its_requirements_or_the_standard_library(
    archive: zipfile.ZipFile,
) -> None:
    required = {line.split("==")[0] for line in archive.read("requirements.txt").decode().splitlines()}
    modules = reached(archive, entry_point(archive))
    assert {"handlers.handler", "handlers.formats.codec"} <= modules
    roots = {module.partition(".")[0] for module in modules} - {"handlers"} - sys.stdlib_module_names
    assert {DISTRIBUTIONS.get(root, root) for root in roots - ESTIMATORS} <= required


def test_the_same_content_gives_the_same_bytes_at_any_time(
    contract: ModelContract, graphs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = build(Quadrants(), contract, graphs, Serving())
    monkeypatch.setattr("time.time", lambda: 2e9)
    monkeypatch.setattr("time.localtime", lambda *_: (2033, 5, 18, 3, 33, 20, 2, 138, 0))
    assert build(Quadrants(), contract, graphs, Serving()) == first


def test_a_trained_models_archive_is_what_build_gives(linear: Result, tmp_path: Path) -> None:
    with zipfile.ZipFile(linear.archive) as archive:
        archive.extractall(tmp_path)
    assert linear.archive.name == "linear-1.0.mar"
    measured = yaml.safe_load((tmp_path / "model-config.yaml").read_text())["responseTimeout"]
    serving = Serving(response_timeout=measured)
    assert linear.archive.read_bytes() == build(recipes.find("linear"), linear.contract, tmp_path, serving)


@pytest.fixture
def chat(contract: ModelContract) -> zipfile.ZipFile:
    """An archive of a language model, without its engine."""
    generation = msgspec.structs.replace(contract, name="chat", task="generation", labels=())
    files = {"model.gguf": bytes(100_000), "assets/chat_template.jinja": b"{{ messages }}"}
    content = pack(generation, CHAT, "chats", {"maxWorkers": 1}, files, ["prometheus-client"])
    return zipfile.ZipFile(io.BytesIO(content))


def test_an_archive_of_a_language_model_holds_what_its_entry_file_reaches_and_no_other(chat: zipfile.ZipFile) -> None:
    own = {"chat.py", "model.gguf", "assets/chat_template.jinja"}
    others = {"MAR-INF/MANIFEST.json", "contract.json", "model-config.yaml", "requirements.txt"}
    assert set(chat.namelist()) == handlers_of(chat) | own | others
    assert not any("/formats/" in name or "/engine/" in name for name in chat.namelist())
    modules = reached(chat, "chat.py")
    assert {
        "handlers.language.handler",
        "handlers.language.decoders.llama",
        "handlers.language.decoders.openvino",
    } <= modules
    required = {line.split("==")[0] for line in chat.read("requirements.txt").decode().splitlines()}
    roots = {module.partition(".")[0] for module in modules} - {"handlers"} - sys.stdlib_module_names
    # Imported where they are wanted; the recipe adds the packages of the engine that it chose.
    chosen = {"llama_cpp", "openvino", "openvino_genai", "llguidance"}
    assert chosen <= roots
    assert {DISTRIBUTIONS.get(root, root) for root in roots - chosen} <= required
    assert "torch" not in required


def test_quantized_weights_are_stored_as_they_are(chat: zipfile.ZipFile) -> None:
    assert chat.getinfo("model.gguf").compress_type == zipfile.ZIP_STORED
    assert chat.getinfo("chat.py").compress_type == zipfile.ZIP_DEFLATED


@pytest.mark.parametrize("entry_point", [CHAT, "sound"])
def test_an_entry_point_that_reads_no_tensors_has_no_wire_formats(entry_point: str) -> None:
    with pytest.raises(ValueError, match=f"the entry point is '{entry_point}'; it must be one of tabular, image, text"):
        codec_of(entry_point)


@pytest.mark.parametrize(
    ("entry_point", "service"), [("tabular", TabularService), ("image", ImageService), ("text", TextService)]
)
def test_the_formats_of_an_entry_point_are_those_that_it_serves(entry_point: str, service: type[Service]) -> None:
    assert codec_of(entry_point) is service.codec
