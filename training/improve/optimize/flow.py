"""The optimization of a champion: open it, make variants, measure them, choose, register the choice."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from msgspec.structs import replace

from handlers.engine import OnnxRuntimeEngine
from serving.registry import Registry
from serving.settings import Folders
from training import pipeline
from training.champion import Champion, check_rewritable, open_champion
from training.figures.machine import machine
from training.improve.optimize import variants as making
from training.improve.optimize.choose import MAX_DROP, choose, objection
from training.improve.optimize.measure import measure
from training.improve.optimize.quantize import int8_instructions
from training.improve.optimize.result import CHOSEN, Optimization, VariantRow
from training.improve.optimize.students import SHARES
from training.improve.optimize.variants import Variant
from training.packaging import export
from training.packaging.lineage import with_lineage
from training.packaging.registration import Promote, Result
from training.packaging.serving_settings import serving_of
from training.recipe import Recipe, Serving
from training.statistics import evaluate

Step = Callable[[str], None]


@dataclass(frozen=True)
class Outcome:
    """The result for ``docs/practices``, and the version that was registered, if any."""

    result: Optimization
    registered: Result | None


@dataclass(frozen=True, kw_only=True)
class OptimizeOptions:
    """The options of an optimization.

    Attributes:
        max_drop: points that the deciding metric may be worse: hundredths, or percent of the champion's error.
        shares: shares of the channels to remove; each gives a pruned variant.
        epochs: epochs of fine-tuning after pruning; None for half of the champion's.
        promote: whether the choice becomes champion: ``auto`` if the version that it was made from still is.
        dry_run: whether nothing is registered.
        seconds: duration of timing, for each variant and size of batch.
        threads: threads of one operator while timing; with one, the machine's other work disturbs least.
    """

    max_drop: float = MAX_DROP
    shares: tuple[float, ...] = SHARES
    epochs: int | None = None
    promote: Promote = "auto"
    dry_run: bool = False
    seconds: float = 1.0
    threads: int = 1


def optimize(
    recipe: Recipe[Any],
    registry: Registry,
    folders: Folders,
    options: OptimizeOptions,
    step: Step = lambda text: None,
) -> Outcome:
    """Make variants of a model's champion, measure them, and register the best, if any is better than the champion.

    Until then the store stays as it is, however this ends.

    Raises:
        ArchiveError: there is no champion, or its archive is not as registered.
        DataError: the data cannot be had.
        ParityError: graphs do not agree with their module.
        ValueError: the champion is a variant already, its engine is not ONNX Runtime, or the held-out rows do not tell
            the metric that decides.
    """
    started = time.monotonic()
    serving = serving_of(recipe, registry.store)
    _check(recipe, registry, serving)
    step("reading the champion and its data")
    with tempfile.TemporaryDirectory() as folder:
        champion = open_champion(recipe, registry, folders.cache, Path(folder))
        recipe.scoring.require(champion.trained.data.test.target, "held-out")
        variants, left_out = making.make(
            champion,
            Path(folder),
            shares=options.shares,
            epochs=options.epochs,
            checkpoints=folders.runs / "optimize",
            step=step,
        )
        rows = measure(variants, champion.contract, threads=options.threads, seconds=options.seconds, step=step)
        batched, max_drop = serving.batch_size > 1, options.max_drop
        chosen = choose(rows, max_drop, batched)
        rows = [replace(row, verdict=_verdict(row, chosen, max_drop, batched)) for row in rows]
        alone = choose(rows, max_drop, batched=False)
        registered = None
        best = next((row for row in rows if row.variant == chosen), None)
        if best and not options.dry_run:
            (variant,) = (variant for variant in variants if variant.name == chosen)
            registered = _register(champion, variant, best, registry, options, step)
    contract = champion.contract
    result = Optimization(
        model=contract.name,
        seconds=round(time.monotonic() - started, 1),
        machine=machine(),
        version=contract.version,
        task=contract.task,
        primary=recipe.scoring.criterion.name,
        held_out=len(champion.trained.data.test),
        max_drop=max_drop,
        threads=options.threads,
        int8_instructions=int8_instructions(),
        chosen=chosen,
        decision=_decision(best, max_drop) + ("" if alone == chosen else _if_alone(contract.name, alone)),
        left_out=left_out,
        rows=rows,
        shares=list(options.shares),
    )
    return Outcome(result, registered)


def _check(recipe: Recipe[Any], registry: Registry, serving: Serving) -> None:
    contract = registry.champion_contract(recipe.name)
    check_rewritable(registry, recipe.name)
    if optimized := contract.lineage.variant:
        raise ValueError(
            f"{recipe.name} {contract.version} is {optimized.variant} of {optimized.of} already: train it again, "
            f"or go back by `python -m serving promote {recipe.name} {optimized.of}`"
        )
    if serving.engine != "onnxruntime":
        raise ValueError(f"{recipe.name} is served by the engine {serving.engine}; variants are graphs of ONNX Runtime")


def _verdict(row: VariantRow, chosen: str | None, max_drop: float, batched: bool) -> str:
    return CHOSEN if row.variant == chosen else objection(row, max_drop, batched) or "slower"


def _decision(best: VariantRow | None, max_drop: float) -> str:
    if best is None:
        return f"none is surely faster and surely within {max_drop:g} points, in any batch"
    return (
        f"{best.variant}, {best.speedup:.2f} times as fast ({best.speedup_low:.2f} to "
        f"{best.speedup_high:.2f}), {best.drop:+.2f} points lost ({best.drop_low:+.2f} to "
        f"{best.drop_high:+.2f}) of {max_drop:g} allowed"
    )


def _if_alone(model: str, variant: str | None) -> str:
    command = f"marloop package {model} --profile latency"
    return f"; {variant} would be chosen if each request were a batch of its own, as by `{command}`"


def _register(
    champion: Champion,
    variant: Variant,
    row: VariantRow,
    registry: Registry,
    options: OptimizeOptions,
    step: Step,
) -> Result:
    """Evaluate the graph that will be served, not its module, and register it."""
    step(f"registering {variant.name}")
    recipe, data, contract = variant.trained.recipe, variant.trained.data, champion.contract
    engine = OnnxRuntimeEngine(variant.graphs, contract, os.cpu_count() or 1)
    test, train, watched = (
        None if split is None else export.run(recipe, engine, split, contract.graph_outputs)
        for split in (data.test, data.train, data.validation)
    )
    assert test is not None
    assert train is not None
    draft = pipeline.draft(variant.trained, evaluate.held_out(recipe, data, test, watched), train, test)
    tolerance = export.parity_tolerance(variant.converted)
    parity = export.check_parity(variant.trained, contract, variant.graphs, tolerance)
    origin = {"of": contract.version, "max_drop": options.max_drop, "converted": variant.converted}
    draft = with_lineage(draft, parity=parity, optimized=row.to_document() | origin)
    registered = pipeline.publish(variant.trained, draft, variant.graphs, registry, options.promote, contract.version)
    return pipeline.report(registered, variant.trained, test, step)
