"""The measurements of each variant: size, metric and distance from the champion, latency, throughput, memory."""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from handlers.contract import Array
from handlers.contract.model_card import Number
from handlers.engine import Engine, OnnxRuntimeEngine
from serving.documents import finite
from training.champion import Champion
from training.improve.optimize import speed
from training.improve.optimize.memory import session_bytes
from training.improve.optimize.quantize import weights
from training.improve.optimize.result import VariantRow
from training.improve.optimize.students import parameters
from training.improve.optimize.variants import Variant
from training.packaging.export import run
from training.packaging.parity import largest_difference
from training.recipe import Data
from training.recipe.measured import Measured
from training.statistics.intervals import bootstrap


class Quality(NamedTuple):
    """The metric that decides, and the distance from the reference, as in a ``VariantRow``, where null is for NaN."""

    value: float = math.nan
    drop: float = math.nan
    drop_low: float = math.nan
    drop_high: float = math.nan
    agreement: Number = None
    difference: float = math.nan


def measure(
    champion: Champion,
    variants: Sequence[Variant],
    *,
    threads: int,
    seconds: float,
    step: Callable[[str], None],
) -> list[VariantRow]:
    """Measure a champion's variants side by side, the first as the reference of all.

    Args:
        seconds: duration of timing, for each variant and size of batch.
    """
    model, data, contract = champion.model, champion.data, champion.contract
    names = contract.graph_outputs
    engines: dict[str, Engine] = {
        variant.name: OnnxRuntimeEngine(variant.graphs, contract, threads) for variant in variants
    }
    work = speed.batches(model, data.test)
    outputs: dict[str, Array] = {}
    measured: dict[str, dict[str, Any]] = {}
    for variant in variants:
        step(f"measuring {variant.name}")
        engine = engines[variant.name]
        output = outputs[variant.name] = run(model, engine, data.test, names)
        value, *distance = quality(model, data, output, outputs[variants[0].name])
        row = {
            "bytes": (variant.graphs / OnnxRuntimeEngine.graph).stat().st_size,
            "parameters": parameters(variant.trained.module) if variant.trained else weights(variants[0].graphs),
            **dict(zip(Quality._fields[1:], distance, strict=True)),
            "batch_effect": batch_effect(model, engine, work[64][0], names[0]),
            "memory_bytes": session_bytes(variant.graphs, contract, work[64][0], threads),
            "figures": {model.scoring.criterion.name: value, **by_slice(model, data, output)},
        }
        measured[variant.name] = finite(row)
    step("timing all of them in turns")
    times = speed.race(engines, work, seconds)
    first = times[variants[0].name]
    return [VariantRow(variant=name, **(figures | _pace(times[name], first))) for name, figures in measured.items()]


def quality(model: Measured, data: Data, output: Array, reference: Array) -> Quality:
    """Measure an output for the held-out rows, and its distance from a reference's on the same rows.

    A point is a hundredth of a metric of which more is better, and a hundredth of the reference's error. The interval
    is the paired bootstrap's.
    """
    scoring, target = model.scoring, data.test.target
    if not np.isfinite(output).all():
        return Quality()
    gain = bootstrap(scoring, output, target, {"reference": reference}).gains["reference"]
    unit = 0.01
    if not scoring.criterion.more:
        # Below the rounding of the target itself, or of the costs, no difference counts.
        scale = np.abs(scoring.criterion.costs or target).max()
        unit *= max(abs(scoring.value(reference, target)), float(np.finfo(np.float32).eps * scale))
    return Quality(
        value=scoring.value(output, target),
        drop=-gain.value / unit + 0.0,
        drop_low=-gain.high / unit + 0.0,
        drop_high=-gain.low / unit + 0.0,
        agreement=float(np.mean(output.argmax(1) == reference.argmax(1))) if scoring.labels else None,
        difference=float(np.abs(output - reference).max()),
    )


def by_slice(model: Measured, data: Data, output: Array) -> dict[str, float]:
    """Measure the deciding metric and the model's own on each part of the held-out rows, as ``PART: METRIC``."""
    name = model.scoring.criterion.name
    slices, target = data.test.slices, data.test.target
    figures: dict[str, float] = {}
    for part in [] if slices is None else dict.fromkeys(slices.tolist()):
        rows = slices == part
        metrics = {name: model.scoring.value(output[rows], target[rows])}
        metrics |= model.metrics(output[rows], target[rows])
        figures |= {f"{part}: {metric}": value for metric, value in metrics.items()}
    return figures


def batch_effect(model: Measured, engine: Engine, batch: Mapping[str, Array], output: str) -> float:
    """Return the largest difference that other rows of a batch make to an output, relative where the output is over 1.

    Dynamic quantization has one scale for a whole batch, so that an answer depends on who else asks.
    """
    together = engine.run(batch)[output]
    worst = 0.0
    for i, expected in enumerate(together):
        alone = engine.run(model.batch({name: values[i : i + 1] for name, values in batch.items()}))[output][0]
        worst = max(worst, largest_difference(alone, expected))
    return worst


def _pace(times: Mapping[int, speed.Times], reference: Mapping[int, speed.Times]) -> dict[str, float]:
    """Return the attributes of a ``VariantRow`` about its speed."""
    figures: dict[str, float] = {}
    for size, spent in times.items():
        figures |= {f"p50_{size}_ms": spent.milliseconds(0.5), f"p99_{size}_ms": spent.milliseconds(0.99)}
    factor, low, high = (1.0, 1.0, 1.0) if times is reference else speed.speedup(times, reference)
    rate = times[max(times)].rows_per_second
    return figures | {"rows_per_second": rate, "speedup": factor, "speedup_low": low, "speedup_high": high}
