"""The champion measured again, from its archive: the page and the figures that its training left, or should have.

python -m training report fashion
"""

import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import torch

from handlers.contract import Array, ModelContract
from handlers.contract.model_card import Evaluation
from handlers.engine import Engine, load_engine
from serving.registry import Registry
from training import evaluate
from training.champion import learned_from, unpack
from training.figures.machine import machine
from training.figures.text import figure, table
from training.packaging import export
from training.packaging.serving_settings import serving_of
from training.recipe import Recipe, Split
from training.report import page


@dataclass(frozen=True)
class ChampionReport:
    """What was found.

    Attributes:
        contract: of the champion, with the evaluation measured anew.
        page: where the page is.
        result: for ``docs/practices``; ``rows`` has the metrics of the model and of each baseline.
    """

    contract: ModelContract
    page: Path
    result: dict[str, Any]


def champion_report(recipe: Recipe[Any], registry: Registry, cache: Path) -> ChampionReport:
    """Run the champion's graph over the held-out rows again and write its page.

    Raises:
        ArchiveError: there is no champion, or its archive is not as registered.
        DataError: the data cannot be had, or is not what the champion was trained on.
    """
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        contract = unpack(registry, recipe.name, Path(folder))
        _, data = learned_from(recipe, contract, cache)
        kind = serving_of(recipe, registry.store).engine
        engine = load_engine(kind, Path(folder), contract, torch.get_num_threads())
        output = _output(recipe, contract, engine, data.test)
        watched = None if data.validation is None else _output(recipe, contract, engine, data.validation)
    contract = msgspec.structs.replace(contract, evaluation=evaluate.held_out(recipe, data, output, watched))
    written = page.write(recipe, contract, data, output, registry.store)
    return ChampionReport(contract, written, _result(contract, time.monotonic() - started))


def markdown(result: Mapping[str, Any]) -> str:
    """The table of a result: every metric of the model with its interval, beside the baselines'."""
    metrics = [name for name in result["rows"][0] if name != "model"]
    first, *others = result["rows"]
    rows = [[first["model"], *(_cell(first[name], result["intervals"].get(name)) for name in metrics)]]
    rows += [[row["model"], *(figure(row[name]) for name in metrics)] for row in others]
    told = [f"95 % intervals in brackets, over {result['held_out']:,} held-out rows."]
    if calibration := result["calibration"]:
        told.append(
            f"Calibration: ECE {figure(calibration['ece'])}, log loss {figure(calibration['log_loss'])}; with the "
            f"temperature {calibration['temperature']:.3f}, fitted on validation rows, "
            f"{figure(calibration['scaled']['ece'])} and {figure(calibration['scaled']['log_loss'])}."
        )
    by_slice = f"\n\n{_by_slice(result)}" if result.get("slices") else ""
    return f"{table(['model', *metrics], rows)}\n{' '.join(told)}{by_slice}"


def _by_slice(result: Mapping[str, Any]) -> str:
    """A second table: each part of the held-out rows by itself."""
    metrics = [name for name in result["slices"][0] if name not in ("slice", "held_out", "model", "intervals")]
    rows = [
        [row["slice"], f"{row['held_out']:,}", row["model"], *(_cell(row[m], row["intervals"].get(m)) for m in metrics)]
        for row in result["slices"]
    ]
    return table(["slice", "rows", "model", *metrics], rows, right=(1,))


def _output(recipe: Recipe[Any], contract: ModelContract, engine: Engine, split: Split) -> Array:
    return export.run(recipe, engine, split, contract.graph_outputs[0])


def _cell(value: float, interval: list[float] | None) -> str:
    return figure(value) + (f" ({figure(interval[0])} to {figure(interval[1])})" if interval else "")


def _result(contract: ModelContract, seconds: float) -> dict[str, Any]:
    evaluation, lineage = contract.evaluation, contract.lineage
    title = f"{contract.name}, preset {lineage.preset}"
    calibration = evaluation.calibration
    temperate = calibration is not None and calibration.temperature is not None
    result = {
        "command": "report",
        "model": contract.name,
        "seconds": round(seconds, 1),
        "machine": machine(),
        "held_out": evaluation.rows,
        "primary": evaluation.primary,
        "fit_seconds": lineage.fit_seconds,
        "parity": lineage.parity,
        "rows": [{"model": name, **metrics} for name, metrics in evaluation.compared(title).items()],
        "slices": [row for part in evaluation.slices.items() for row in _slice(title, *part)],
        "intervals": evaluation.intervals,
        "gains": evaluation.gains,
        "calibration": msgspec.structs.replace(calibration, bins=[]) if calibration and temperate else None,
    }
    plain: dict[str, Any] = msgspec.to_builtins(result)
    return plain


def _slice(model: str, name: str, part: Evaluation) -> list[dict[str, Any]]:
    """The rows of one slice: the model's, with intervals, then the baselines'."""
    known = {"slice": name, "held_out": part.rows}
    return [
        known | {"model": other, **metrics, "intervals": part.intervals if other == model else {}}
        for other, metrics in part.compared(model).items()
    ]
