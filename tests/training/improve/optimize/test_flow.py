import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from handlers.contract import ModelContract
from handlers.engine import load_engine
from handlers.formats.codec import Codec
from handlers.handler import ModelHandler
from serving.registry import ArchiveError, Registry, file_sha256
from serving.settings import Folders
from tests.support.training.quadrants import Quadrants
from tests.support.training.trainings import CACHE
from training import pipeline
from training.champion import RecipeChampion
from training.improve.optimize import flow, measure
from training.improve.optimize.flow import OptimizeOptions, Outcome
from training.improve.optimize.quantize import INT8, datatypes
from training.packaging import packable
from training.packaging.registration import Promote
from training.packaging.serving_settings import choose as choose_serving
from training.recipe import Recipe
from training.recipes.linear import Linear

Optimize = Callable[..., Outcome]


@pytest.fixture
def optimize(store: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Optimize:
    """Optimizes a model of this test's store, in little time: without students or a process to measure memory."""
    monkeypatch.setattr(measure, "session_bytes", lambda *arguments: 1_000_000)

    def run(recipe: Recipe[Any], **options: Any) -> Outcome:
        step = options.pop("step", lambda text: None)
        chosen = replace(OptimizeOptions(shares=(), seconds=0.0), **options)
        return flow.optimize(RecipeChampion(recipe, CACHE), store, Folders(CACHE, tmp_path / "runs"), chosen, step)

    return run


@pytest.fixture
def chosen(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | None], None]:
    """Decides for the choice, which else depends on how fast the machine is."""
    return lambda name: monkeypatch.setattr(flow, "choose", lambda rows, max_drop, batched: name)


def snapshot(store: Registry) -> dict[str, str]:
    files = {path.name: path for path in store.store.rglob("*") if path.is_file() and path.suffix != ".lock"}
    return {name: file_sha256(path) for name, path in files.items()}


def unpacked(archive: Path, folder: Path) -> tuple[ModelContract, Path]:
    shutil.unpack_archive(archive, folder, "zip")
    return ModelContract.from_json((folder / "contract.json").read_bytes()), folder


def test_all_variants_are_made_and_measured(optimize: Optimize) -> None:
    result = optimize(Quadrants(), shares=(0.5,), dry_run=True).result.to_document()
    assert [row["variant"] for row in result["rows"]] == [
        "float32",
        "pruned 50 %",
        "int8 dynamic",
        "int8 static",
        "float16",
        "pruned 50 %, int8 dynamic",
        "pruned 50 %, int8 static",
    ]
    assert result["left_out"] == {}
    by_name = {row["variant"]: row for row in result["rows"]}
    assert by_name["pruned 50 %"]["parameters"] < by_name["float32"]["parameters"]
    assert by_name["float32"]["verdict"] == "the champion"
    assert (result["command"], result["model"], result["version"]) == ("optimize", "quadrants", "1.0")
    assert (result["primary"], result["held_out"], result["max_drop"]) == ("accuracy", 200, 0.5)


def test_what_cannot_be_made_is_left_out_with_the_reason(optimize: Optimize) -> None:
    outcome = optimize(Linear(), shares=(0.5,), max_drop=0)
    assert outcome.result.to_document()["left_out"]["pruned 50 %"] == "it has no layer inside that could lose channels"
    assert outcome.result.to_document()["chosen"] is None
    assert outcome.registered is None


def test_a_bound_of_zero_leaves_an_exact_champion_alone(optimize: Optimize, store: Registry) -> None:
    before = snapshot(store)
    outcome = optimize(Linear(), max_drop=0)
    (int8,) = (row for row in outcome.result.to_document()["rows"] if row["variant"] == "int8 static")
    assert int8["verdict"] == "loses too much"
    assert outcome.result.to_document()["decision"] == "none is surely faster and surely within 0 points, in any batch"
    assert snapshot(store) == before


def test_a_variant_that_only_the_batches_rule_out_is_named_with_what_would_allow_it(
    optimize: Optimize, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(flow, "choose", lambda rows, max_drop, batched: None if batched else "int8 dynamic")
    decision = optimize(Quadrants(), dry_run=True).result.decision
    assert decision.endswith(
        "; int8 dynamic would be chosen if each request were a batch of its own, as by "
        "`marloop package quadrants --profile latency`"
    )


def test_where_each_request_is_a_batch_of_its_own_the_batch_rules_nothing_out(
    optimize: Optimize, store: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[bool] = []
    monkeypatch.setattr(flow, "choose", lambda rows, max_drop, batched: asked.append(batched))
    choose_serving(Quadrants(), {"batch_size": 1}, store.store)
    optimize(Quadrants(), dry_run=True)
    assert asked == [False, False]


def test_the_chosen_variant_is_registered_and_says_what_it_is(
    optimize: Optimize, store: Registry, chosen: Callable[[str | None], None]
) -> None:
    chosen("int8 static")
    outcome = optimize(Quadrants(), max_drop=3.0)
    registered = outcome.registered
    assert registered
    assert (registered.contract.version, registered.state) == ("1.1", "champion")
    assert store.models()["quadrants"]["1.0"].state == "retired"
    optimized = registered.contract.lineage.optimized
    assert (optimized["variant"], optimized["of"], optimized["max_drop"]) == ("int8 static", "1.0", 3.0)
    (row,) = (row for row in outcome.result.to_document()["rows"] if row["variant"] == "int8 static")
    assert row["verdict"] == "chosen"
    assert optimized["speedup"] == row["speedup"]
    assert registered.contract.evaluation.metrics["accuracy"] == pytest.approx(row["accuracy"])


def test_its_archive_is_served_under_the_same_contract(
    optimize: Optimize, store: Registry, chosen: Callable[[str | None], None], tmp_path: Path
) -> None:
    before, _ = unpacked(store.verify(store.champions()["quadrants"][1]), tmp_path / "before")
    chosen("pruned 50 %, int8 static")
    optimize(Quadrants(), shares=(0.5,))
    contract, graphs = unpacked(store.verify(store.champions()["quadrants"][1]), tmp_path / "after")
    same = ("name", "task", "inputs", "outputs", "labels")
    assert [getattr(contract, field) for field in same] == [getattr(before, field) for field in same]
    assert contract.example.request == before.example.request
    assert datatypes(graphs / "model.onnx") & set(INT8)
    weights = onnx.load(graphs / "model.onnx").graph.initializer
    assert sorted(np.prod(w.dims).item() for w in weights if len(w.dims) == 2) == [2 * 8, 8 * 4]
    ModelHandler(contract, load_engine("onnxruntime", graphs, contract, 1), Codec(contract, 16)).check_example()
    test = Quadrants().load(Quadrants().preset(None), tmp_path).test
    served = load_engine("onnxruntime", graphs, contract, 1).run(test.inputs)["probabilities"]
    accuracy = np.mean(served.argmax(1) == test.target)
    assert accuracy == pytest.approx(contract.evaluation.metrics["accuracy"])
    parity = contract.lineage.parity
    assert parity["torch"] < 1e-5 < parity["onnxruntime"] < 0.5  # the float32 program, and what int8 makes of it
    assert contract.lineage.graph_sha256["model.onnx"] == file_sha256(graphs / "model.onnx")


def test_a_dry_run_leaves_the_store_as_it_was(
    optimize: Optimize, store: Registry, chosen: Callable[[str | None], None]
) -> None:
    before = snapshot(store)
    chosen("int8 static")
    outcome = optimize(Quadrants(), dry_run=True)
    assert outcome.result.to_document()["chosen"] == "int8 static"
    assert outcome.registered is None
    assert snapshot(store) == before


@pytest.mark.parametrize(
    ("promote", "state", "why"),
    [
        ("auto", "champion", "made to replace 1.0; the champion was 1.0"),
        ("never", "challenger", "as asked: promote never"),
        ("always", "champion", "as asked: promote always"),
    ],
)
def test_promotion_is_as_asked(
    optimize: Optimize, chosen: Callable[[str | None], None], promote: Promote, state: str, why: str
) -> None:
    chosen("float16")
    registered = optimize(Quadrants(), promote=promote).registered
    assert registered
    assert (registered.state, registered.why) == (state, why)


def test_a_champion_that_was_promoted_meanwhile_stays(
    optimize: Optimize, store: Registry, chosen: Callable[[str | None], None]
) -> None:
    chosen("int8 static")

    def step(text: str) -> None:
        if text == "timing all of them in turns":
            pipeline.package(packable.of_recipe(Quadrants(), store.store), store)  # 1.1

    registered = optimize(Quadrants(), step=step).registered
    assert registered
    assert (registered.state, registered.why) == ("challenger", "made to replace 1.0; the champion was 1.1")
    assert store.champions()["quadrants"][0] == "1.1"


@pytest.mark.parametrize("when", ["making int8 static", "timing all of them in turns", "registering int8 static"])
def test_interrupted_it_leaves_the_store_as_it_was(
    optimize: Optimize, store: Registry, chosen: Callable[[str | None], None], when: str
) -> None:
    before = snapshot(store)
    chosen("int8 static")

    def step(text: str) -> None:
        if text == when:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        optimize(Quadrants(), step=step)
    assert snapshot(store) == before


def test_a_variant_is_not_optimized_again(optimize: Optimize, chosen: Callable[[str | None], None]) -> None:
    chosen("float16")
    optimize(Quadrants())
    with pytest.raises(ValueError, match=r"quadrants 1.1 is float16 of 1.0 already.*marloop promote quadrants 1.0"):
        optimize(Quadrants())


def test_a_model_that_is_served_by_torch_has_no_use_for_other_graphs(optimize: Optimize, store: Registry) -> None:
    choose_serving(Quadrants(), {"engine": "torch"}, store.store)
    with pytest.raises(ValueError, match="quadrants is served by the engine torch; variants are graphs of ONNX"):
        optimize(Quadrants())


class Unknown(Quadrants):
    """A model that was never trained."""

    name = "unknown"


class Changed(Quadrants):
    """The recipe of quadrants after its network was changed."""

    module = Linear.module  # type: ignore[assignment]


@pytest.mark.parametrize(
    ("recipe", "error", "message"),
    [
        (Unknown(), ArchiveError, "unknown has no champion: run `make train MODEL=unknown`"),
        (Changed(), ValueError, "quadrants 1.0 was made by another network than its recipe's of today: train it again"),
    ],
)
def test_a_champion_that_cannot_be_opened_is_an_error(
    optimize: Optimize,
    recipe: Recipe[Any],
    error: type[Exception],
    message: str,
) -> None:
    with pytest.raises(error, match=message):
        optimize(recipe)


def test_an_archive_of_a_variant_holds_the_float32_program_too(
    optimize: Optimize, store: Registry, chosen: Callable[[str | None], None]
) -> None:
    first = store.verify(store.champions()["quadrants"][1])
    chosen("int8 dynamic")
    registered = optimize(Quadrants()).registered
    assert registered
    programs = [zipfile.ZipFile(path).read("model.pt2") for path in (first, registered.archive)]
    assert programs[0] == programs[1]
