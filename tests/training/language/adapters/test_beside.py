"""Adapters put beside a registered model: from a folder, or learned; what cannot be served is not registered."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from handlers.contract import ModelContract
from handlers.contract.task_results import RegressionPrompt
from handlers.entry_points.chat import ChatService
from handlers.language.decoders.adapters import CONFIG, layer_names, write_adapter
from handlers.language.generation import Generate
from serving import archive
from serving.registry import Registry, file_sha256
from tests.support.handlers.generating import GREEDY, run
from tests.support.training.tiny import EXPECTED, LAYERS, SENTENCE, Tiny, random_adapter
from training import recipes
from training.__main__ import app
from training.data import DataError
from training.language import weights
from training.language.adapters.beside import add_adapter
from training.language.evaluation.comparison import Trial, compare_versions
from training.language.imported import LanguageOptions, bring_language
from training.language.recipe import LanguageHyperparameters, LanguageRecipe, Weights
from training.packaging.lineage import with_lineage
from training.statistics.pair import Pair

pytest.importorskip("openvino_genai", reason="openvino-genai is not installed: pip install -e '.[chat]'")

NAMES = [*layer_names(LAYERS)]
OPENVINO = {"openvino": "openvino_genai"}


@pytest.fixture(autouse=True)
def openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine that has adapters, whatever else is installed."""
    monkeypatch.setattr("training.language.engines.MODULES", OPENVINO)


@pytest.fixture(scope="module")
def imported(taught: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with the model as it was imported, 1.0."""
    store = tmp_path_factory.mktemp("imported") / "store"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("training.language.engines.MODULES", OPENVINO)
        bring_language(taught.path, Registry(store), LanguageOptions(name="tide"))
    return store


@pytest.fixture
def registry(imported: Path, tmp_path: Path) -> Registry:
    """A copy of it."""
    return Registry(shutil.copytree(imported, tmp_path / "store"))


@pytest.fixture
def pirate(taught: Tiny, tmp_path: Path) -> Path:
    """A folder as PEFT writes it."""
    write_adapter(tmp_path / "pirate", random_adapter(taught, 1, 4, NAMES), 4)
    return tmp_path / "pirate"


def call(registry: Registry, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["adapter", *arguments, "--store", str(registry.store)])


def answers(registry: Registry, folder: Path, *adapters: str) -> list[list[int]]:
    """What the champion's own engine says with each adapter."""
    champion = registry.champion("tide")
    path = registry.verify(champion.version)
    archive.unpack(path, folder)
    _, engine = ChatService().load_engine(folder, archive.read_config(path)["handler"])
    prompt = engine.tokenize(SENTENCE[:14], False)
    given = run(engine, *(Generate(f"{name}.", prompt, 12, GREEDY, adapter=name) for name in adapters))
    engine.close()
    return [given[f"{name}."].numbers for name in adapters]


def test_a_folder_of_peft_becomes_a_version_whose_model_alone_is_the_former(
    registry: Registry, pirate: Path, tmp_path: Path
) -> None:
    before = registry.champion_contract("tide")
    done = call(registry, "tide", "pirate", str(pirate))
    assert done.exit_code == 0, done.output
    after = registry.champion_contract("tide")
    assert (after.version, after.lineage.packaged_from, after.example) == ("1.1", "1.0", before.example)
    (card,) = after.lineage.adapters.values()
    assert (card.rank, card.base, card.instructions) == (4, "1.0", None)
    assert card.perplexity != pytest.approx(after.evaluation.metrics["perplexity"], rel=0.1)
    base, other = answers(registry, tmp_path / "opened", "", "pirate")
    assert base != other
    page = registry.store / "reports" / "tide-1.1.html"
    assert "tide:pirate" in page.read_text()


def test_a_second_one_joins_the_first_and_the_same_name_replaces_it(
    registry: Registry, taught: Tiny, pirate: Path, tmp_path: Path
) -> None:
    write_adapter(tmp_path / "poet", random_adapter(taught, 2, 2, NAMES[:4]), 2)
    for name, folder in (("pirate", pirate), ("poet", tmp_path / "poet"), ("pirate", tmp_path / "poet")):
        assert call(registry, "tide", name, str(folder)).exit_code == 0
    contract = registry.champion_contract("tide")
    assert {name: card.rank for name, card in contract.lineage.adapters.items()} == {"pirate": 2, "poet": 2}
    first, second = answers(registry, tmp_path / "opened", "pirate", "poet")
    assert first == second


def test_one_is_left_out_by_its_name(registry: Registry, pirate: Path) -> None:
    assert call(registry, "tide", "pirate", str(pirate)).exit_code == 0
    assert call(registry, "tide", "parrot", "--remove").exit_code == 1
    done = call(registry, "tide", "pirate", "--remove")
    assert "its adapters: none" in done.output
    contract = registry.champion_contract("tide")
    assert (contract.version, contract.lineage.adapters) == ("1.2", {})
    path = registry.archive(registry.champion("tide").version)
    assert not any(name.startswith("adapters/") for name in archive.names(path))


def test_a_version_without_the_champions_adapters_is_no_better_until_it_has_them(
    registry: Registry, pirate: Path
) -> None:
    assert call(registry, "tide", "pirate", str(pirate)).exit_code == 0
    plain, champion = "1.0", "1.1"
    prompt = RegressionPrompt({"prompt": "The", "max_tokens": 1, "temperature": 0}, ".")
    found = compare_versions(registry, "tide", Pair(champion, plain), Trial(prompts=[prompt]))
    (lost,) = found.worse
    assert lost.startswith("it lacks the champion's adapters (pirate): `marloop adapter tide NAME SOURCE --version")
    done = call(registry, "tide", "pirate", str(pirate), "--version", plain)
    assert "tide 1.2 is a challenger (made to replace 1.0; the champion was 1.1)" in done.output
    assert not compare_versions(registry, "tide", Pair(champion, "1.2"), Trial(prompts=[prompt])).worse
    assert "tide 1.9 is not registered; there are 1.0, 1.1, 1.2" in call(
        registry, "tide", "pirate", str(pirate), "--version", "1.9"
    ).output.replace("\n", " ")


@pytest.mark.parametrize(
    ("name", "config", "fault"),
    [
        ("a:b", {}, "no adapter can be called 'a:b'"),
        ("pirate", {"use_dora": True}, "has use_dora: True, which cannot be served"),
        ("pirate", {"r": 8}, "with r: 8 they are"),
    ],
)
def test_what_cannot_be_served_is_not_registered(
    registry: Registry, pirate: Path, name: str, config: dict[str, Any], fault: str
) -> None:
    (pirate / CONFIG).write_text(json.dumps(json.loads((pirate / CONFIG).read_text()) | config))
    done = call(registry, "tide", name, str(pirate))
    assert done.exit_code == 1
    assert fault in " ".join(done.output.split())
    assert [*registry.models()["tide"]] == ["1.0"]


def test_one_of_another_model_is_not_registered(registry: Registry, taught: Tiny, tmp_path: Path) -> None:
    ((layer, change),) = random_adapter(taught, 1, 2, NAMES[:1]).items()
    write_adapter(tmp_path / "wide", {layer: change._replace(down=change.down[:, :32])}, 2)
    with pytest.raises(DataError, match="the adapter wide is of another model: in layers.0.self_attn.q_proj"):
        add_adapter(registry, "tide", "wide", tmp_path / "wide", tmp_path)
    assert [*registry.models()["tide"]] == ["1.0"]


def test_a_model_of_an_engine_without_adapters_says_how_to_get_one(registry: Registry, pirate: Path) -> None:
    version = registry.champion("tide").version
    path = registry.archive(version)
    settings = {"handler": archive.read_config(path)["handler"] | {"engine": "llama.cpp"}}
    path.write_bytes(archive.with_settings(path.read_bytes(), settings))
    with registry.change() as models:
        models["tide"]["1.0"].sha256 = file_sha256(path)
    done = call(registry, "tide", "pirate", str(pirate))
    assert "is served by llama.cpp, which applies an adapter to all requests" in " ".join(done.output.split())


def test_conversations_are_learned_beside_the_published_weights(
    registry: Registry, taught: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    origin = Weights("tiny==1", "tiny.whl", "0" * 64, "taught.gguf")
    hp = LanguageHyperparameters(engine="openvino", rank=4, epochs=8, lr=1e-2)
    recipe = LanguageRecipe("tide", "", origin, EXPECTED, {"default": hp})
    monkeypatch.setattr(recipes, "find_any", lambda name: recipe)
    monkeypatch.setattr(weights, "fetch", lambda weights, cache: taught.path)
    lines = [{"instruction": "Where?", "response": "In the wood."}] * 10
    (tmp_path / "talks.jsonl").write_text("\n".join(map(json.dumps, lines)))
    done = call(registry, "tide", "wood", str(tmp_path / "talks.jsonl"))
    assert "other weights than the recipe" in " ".join(done.output.split())
    contract = registry.champion_contract("tide")
    monkeypatch.setattr(registry, "contract", lambda version: _published(contract))
    result = add_adapter(registry, "tide", "wood", tmp_path / "talks.jsonl", tmp_path)
    card = result.contract.lineage.adapters["wood"]
    assert card.tuning
    assert card.tuning.after < card.tuning.before
    assert card.instructions
    assert (card.instructions.rows, card.instructions.held_out, card.rank) == (9, 1, 4)


def _published(contract: ModelContract) -> ModelContract:
    """The contract as if a recipe had made the version."""
    return with_lineage(contract, data_sha256="0" * 64, preset="default")
