"""Export a champion: write each format, compare its answers with the program's, and time it in its own runtime.

python -m training export fashion
"""

import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from handlers.contract import Array
from handlers.engine import Engine
from serving.archive import PROGRAM
from serving.documents import write_atomically
from serving.registry import Registry
from training.champion import learned_from, unpack
from training.figures.machine import machine
from training.figures.timing import medians
from training.improve.formats.format import ExportError, Format, Source
from training.improve.formats.graphs import Onnx, TorchProgram
from training.improve.formats.litert import TensorFlowLite
from training.improve.formats.openvino_ir import OpenVINO
from training.improve.formats.parity import agrees, compare
from training.packaging.export import parity_rows, predict, run
from training.recipe import Recipe, Split

SIZES = {"p50_ms": 1, "p50_64_ms": 64}  # rows of one call, by the column of its time


def formats(litert: Path) -> dict[str, Format]:
    """Every format by name.

    Args:
        litert: Python of the environment that holds litert-torch.
    """
    every: tuple[Format, ...] = (Onnx(), TorchProgram(), TensorFlowLite(litert), OpenVINO())
    return {one.name: one for one in every}


def export_champion(
    recipe: Recipe[Any],
    registry: Registry,
    chosen: Sequence[Format],
    *,
    cache: Path,
    output: Path,
    rounds: int = 20,
    step: Callable[[str], None] = lambda text: None,
) -> dict[str, Any]:
    """Write a champion in some formats; a file whose answers differ is not kept.

    Args:
        output: folder; the files are called ``MODEL-VERSION``, the contract lies beside them.

    Returns:
        ``command``, ``model``, ``version``, ``seconds``, ``machine``, ``compared_rows``; ``rows``, for each format
        ``format``, ``file``, ``bytes``, ``runtime``, ``batch`` (rows that it takes), the difference as ``compare``
        gives it, and medians of the time of one call with one row (``p50_ms``) and with 64 (``p50_64_ms``), on one
        thread; and ``failed``, why by format.

    Raises:
        ArchiveError: there is no champion, or its archive is not as registered.
        DataError: the data cannot be had, or is not what the champion was trained on.
    """
    started, threads = time.perf_counter(), torch.get_num_threads()
    step("reading the champion and its data")
    with tempfile.TemporaryDirectory() as folder:
        source, split = _open(recipe, registry, cache, Path(folder))
        expected = predict(source.program.module(), split)
        rows, engines, failed = {}, {}, {}
        for one in chosen:
            step(f"exporting to {one.name}, and comparing {len(split):,} rows")
            try:
                rows[one.name], engines[one.name] = _export(one, recipe, source, split, expected, Path(folder), output)
            except ExportError as error:
                failed[one.name] = str(error)
        if rows:
            step("measuring the time of each")
            (output / f"{_stem(source)}.contract.json").write_bytes(source.contract.to_json())
            for name, times in _times(recipe, engines, split, rounds).items():
                rows[name] |= times
    torch.set_num_threads(threads)  # the torch engine sets it for the whole process
    return {
        "command": "export",
        "model": recipe.name,
        "version": source.contract.version,
        "seconds": round(time.perf_counter() - started, 1),
        "machine": machine(),
        "compared_rows": len(split),
        "rows": list(rows.values()),
        "failed": failed,
    }


def _open(recipe: Recipe[Any], registry: Registry, cache: Path, folder: Path) -> tuple[Source, Split]:
    contract = unpack(registry, recipe.name, folder)
    path = folder / PROGRAM
    _, data = learned_from(recipe, contract, cache)
    split = parity_rows(recipe, data)
    row = {name: values[:1] for name, values in split.inputs.items()}
    return Source(contract, torch.export.load(path), path, row), split


def _export(
    one: Format, recipe: Recipe[Any], source: Source, split: Split, expected: Array, work: Path, output: Path
) -> tuple[dict[str, Any], Engine]:
    one.require_runtime()
    folder = work / one.name
    folder.mkdir()
    one.write(source, folder)
    engine = one.open(folder, source.contract)
    comparison = compare(recipe.task, expected, run(recipe, engine, split, source.contract.graph_outputs[0]))
    if not agrees(comparison):
        found = ", ".join(f"{name} {value:.3g}" for name, value in comparison.items())
        raise ExportError(f"{recipe.name} as {one.name} answers otherwise than its program ({found}); it is not kept")
    output.mkdir(parents=True, exist_ok=True)
    names = {name: f"{_stem(source)}{Path(name).suffix}" for name in one.files}
    for name, final in names.items():
        write_atomically(output / final, (folder / name).read_bytes())
    row = {
        "format": one.name,
        "file": names[one.files[0]],
        "bytes": sum((folder / name).stat().st_size for name in one.files),
        "runtime": f"{one.runtime} {importlib.metadata.version(one.runtime).partition('+')[0]}",
        "batch": one.batch,
    }
    return row | comparison, engine


def _times(
    recipe: Recipe[Any], engines: Mapping[str, Engine], split: Split, rounds: int
) -> dict[str, dict[str, float]]:
    """The medians of each engine, in ms by column."""
    times: dict[str, dict[str, float]] = {name: {} for name in engines}
    for column, size in SIZES.items():
        rows = recipe.batch({name: values[:size] for name, values in split.inputs.items()})
        for name, seconds in medians({name: partial(one.run, rows) for name, one in engines.items()}, rounds).items():
            times[name][column] = round(1000 * seconds, 4)
    return times


def _stem(source: Source) -> str:
    return f"{source.contract.name}-{source.contract.version}"
