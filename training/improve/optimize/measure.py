"""What each variant is worth: size, metric with its distance from the champion's, latency, throughput, memory."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from handlers.contract import Array, ModelContract
from handlers.engine import Engine, OnnxRuntimeEngine
from training.improve.optimize import speed
from training.improve.optimize.memory import session_bytes
from training.improve.optimize.students import parameters
from training.improve.optimize.variants import Variant
from training.packaging.export import run
from training.recipe import Data, Recipe
from training.statistics.intervals import bootstrap

Row = dict[str, Any]


def measure(
    variants: Sequence[Variant],
    contract: ModelContract,
    *,
    threads: int,
    seconds: float,
    step: Callable[[str], None],
) -> list[Row]:
    """Measure variants side by side, the first as the reference of all.

    Args:
        seconds: of timing, for each variant and size of batch.

    Returns:
        For each ``variant``: ``bytes`` of the graph, ``parameters``; the deciding metric by its name, ``drop`` in
        points with ``drop_low`` and ``drop_high``, ``agreement`` (share of held-out rows with the reference's label;
        None of a regression), ``difference`` (the largest, of an output), ``PART: METRIC`` of each part of the held-out
        rows, ``batch_effect`` (see below); ``p50_1_ms``,
        ``p99_1_ms``, ``p50_64_ms``, ``p99_64_ms``, ``rows_per_second``, ``memory_bytes``, and ``speedup`` with
        ``speedup_low`` and ``speedup_high``.
    """
    trained = variants[0].trained
    recipe, data = trained.recipe, trained.data
    engines: dict[str, Engine] = {
        variant.name: OnnxRuntimeEngine(variant.graphs, contract, threads) for variant in variants
    }
    work = speed.batches(recipe, data.test)
    rows: list[Row] = []
    outputs: dict[str, Array] = {}
    for variant in variants:
        step(f"measuring {variant.name}")
        engine = engines[variant.name]
        output = outputs[variant.name] = run(recipe, engine, data.test, contract.graph_outputs[0])
        row = {"variant": variant.name, "bytes": (variant.graphs / OnnxRuntimeEngine.graph).stat().st_size}
        row |= {"parameters": parameters(variant.trained.module)}
        row |= quality(recipe, data, output, outputs[variants[0].name])
        row |= by_slice(recipe, data, output)
        row |= {"batch_effect": batch_effect(recipe, engine, work[64][0], contract.graph_outputs[0])}
        row |= {"memory_bytes": session_bytes(variant.graphs, contract, work[64][0], threads)}
        rows.append(row)
    step("timing all of them in turns")
    times = speed.race(engines, work, seconds)
    return [row | _pace(times[row["variant"]], times[variants[0].name]) for row in rows]


def quality(recipe: Recipe[Any], data: Data, output: Array, reference: Array) -> Row:
    """The deciding metric of an output for the held-out rows, and its distance from a reference's on the same rows.

    A point is a hundredth of a metric of which more is better, and a hundredth of the reference's error. The interval
    is the paired bootstrap's.
    """
    scoring, target = recipe.scoring, data.test.target
    name = scoring.criterion.name
    if not np.isfinite(output).all():
        return {name: None, "drop": None, "drop_low": None, "drop_high": None, "agreement": None, "difference": None}
    gain = bootstrap(scoring, output, target, {"reference": reference}).gains["reference"]
    unit = 0.01
    if not scoring.criterion.more:
        # Below the rounding of the target itself, or of the costs, no difference counts.
        scale = np.abs(scoring.criterion.costs or target).max()
        unit *= max(abs(scoring.value(reference, target)), float(np.finfo(np.float32).eps * scale))
    agreement = float(np.mean(output.argmax(1) == reference.argmax(1))) if scoring.labels else None
    return {
        name: scoring.value(output, target),
        "drop": -gain.value / unit + 0.0,
        "drop_low": -gain.high / unit + 0.0,
        "drop_high": -gain.low / unit + 0.0,
        "agreement": agreement,
        "difference": float(np.abs(output - reference).max()),
    }


def by_slice(recipe: Recipe[Any], data: Data, output: Array) -> Row:
    """The deciding metric and the recipe's own of each part of the held-out rows, as ``PART: METRIC``."""
    name = recipe.scoring.criterion.name
    slices, target = data.test.slices, data.test.target
    found: Row = {}
    for part in [] if slices is None else dict.fromkeys(slices.tolist()):
        rows = slices == part
        metrics = {name: recipe.scoring.value(output[rows], target[rows])}
        metrics |= recipe.metrics(output[rows], target[rows])
        found |= {f"{part}: {metric}": value for metric, value in metrics.items()}
    return found


def batch_effect(recipe: Recipe[Any], engine: Engine, batch: Mapping[str, Array], output: str) -> float:
    """The largest difference that a row's company in its batch makes to its output, relative where that is over 1.

    Dynamic quantization has one scale for a whole batch, so that an answer depends on who else asks.
    """
    together = engine.run(batch)[output]
    worst = 0.0
    for i, expected in enumerate(together):
        alone = engine.run(recipe.batch({name: values[i : i + 1] for name, values in batch.items()}))[output][0]
        worst = max(worst, float(np.max(np.abs(alone - expected) / np.maximum(1, np.abs(expected)))))
    return worst


def _pace(times: Mapping[int, speed.Times], reference: Mapping[int, speed.Times]) -> Row:
    found: Row = {}
    for size, one in times.items():
        found |= {f"p50_{size}_ms": one.milliseconds(0.5), f"p99_{size}_ms": one.milliseconds(0.99)}
    factor, low, high = (1.0, 1.0, 1.0) if times is reference else speed.speedup(times, reference)
    rate = times[max(times)].rows_per_second
    return found | {"rows_per_second": rate, "speedup": factor, "speedup_low": low, "speedup_high": high}
