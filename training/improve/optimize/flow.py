"""The optimization of a champion: open it, make variants, measure them, choose, register the choice."""

import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from msgspec.structs import replace

from handlers.contract import Array, ModelContract
from handlers.contract.model_card import Evaluation
from handlers.engine import OnnxRuntimeEngine
from serving.registry import Registry
from serving.settings import Folders
from training import pipeline
from training.champion import Champion, ChampionSource, check_rewritable
from training.champion.imported import measured_again
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
from training.packaging.packable import Packable
from training.packaging.registration import Promote, Result, register
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
    source: ChampionSource,
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
    _check(source.name, registry)
    parts = source.parts(registry)
    if parts.serving.engine != "onnxruntime":
        raise ValueError(
            f"{source.name} is served by the engine {parts.serving.engine}; variants are graphs of ONNX Runtime"
        )
    step("reading the champion and its data")
    with tempfile.TemporaryDirectory() as folder:
        champion = source.open(registry, Path(folder), fitted=True)
        scoring, contract = champion.model.scoring, champion.contract
        scoring.require(champion.data.test.target, "held-out")
        variants, left_out = making.make(
            champion,
            Path(folder),
            shares=options.shares,
            epochs=options.epochs,
            checkpoints=folders.runs / "optimize",
            step=step,
        )
        rows = measure(champion, variants, threads=options.threads, seconds=options.seconds, step=step)
        batched, max_drop = parts.serving.batch_size > 1, options.max_drop
        chosen = choose(rows, max_drop, batched)
        rows = [replace(row, verdict=_verdict(row, chosen, max_drop, batched)) for row in rows]
        alone = choose(rows, max_drop, batched=False)
        registered = None
        best = next((row for row in rows if row.variant == chosen), None)
        if best and not options.dry_run:
            (variant,) = (variant for variant in variants if variant.name == chosen)
            step(f"registering {variant.name}")
            registered, output = _register(champion, variant, best, parts, registry, options)
            registered = pipeline.report(registered, parts, champion.data, output, step)
    result = Optimization(
        model=contract.name,
        seconds=round(time.monotonic() - started, 1),
        machine=machine(),
        version=contract.version,
        task=contract.task,
        primary=scoring.criterion.name,
        held_out=len(champion.data.test),
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


def _check(name: str, registry: Registry) -> None:
    contract = registry.champion_contract(name)
    check_rewritable(registry, registry.champion(name).version)
    if optimized := contract.lineage.variant:
        again = "import" if contract.lineage.imported else "train"
        raise ValueError(
            f"{name} {contract.version} is {optimized.variant} of {optimized.of} already: {again} it again, "
            f"or go back by `marloop promote {name} {optimized.of}`"
        )


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
    parts: Packable,
    registry: Registry,
    options: OptimizeOptions,
) -> tuple[Result, Array]:
    """Evaluate the graph that will be served, not its module, and register it; also return its output."""
    model, data, contract = champion.model, champion.data, champion.contract
    engine = OnnxRuntimeEngine(variant.graphs, contract, os.cpu_count() or 1)
    test, train, watched = (
        None if split is None else export.run(model, engine, split, contract.graph_outputs)
        for split in (data.test, data.train, data.validation)
    )
    assert test is not None
    assert train is not None
    draft = _draft(champion, variant, row, evaluate.held_out(model, data, test, watched), train, test)
    origin = {"of": contract.version, "max_drop": options.max_drop, "converted": variant.converted}
    draft = with_lineage(draft, optimized=row.to_document() | origin)
    draft = pipeline.complete(draft, parts, data, variant.graphs)
    packing = parts.packing(variant.graphs)
    return register(draft, packing, registry, options.promote, contract.version), test


def _draft(
    champion: Champion, variant: Variant, row: VariantRow, evaluation: Evaluation, learned: Array, held_out: Array
) -> ModelContract:
    """Return the contract of a variant, with its distance from its module, or from the champion where there is none.

    Args:
        learned: output of its graph for the training rows; ``held_out`` likewise.
    """
    if variant.trained is None:
        distance = {"rows": len(held_out), "onnxruntime": row.difference}
        return with_lineage(measured_again(champion, evaluation, learned, held_out), parity=distance)
    draft = pipeline.draft(variant.trained, evaluation, learned, held_out)
    tolerance = export.parity_tolerance(variant.converted)
    parity = export.check_parity(variant.trained, champion.contract, variant.graphs, tolerance)
    return with_lineage(draft, parity=parity)
