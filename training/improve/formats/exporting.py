"""Export a champion: write each format, compare its answers with the program's, and time it in its own runtime.

python -m training export fashion
"""

import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from msgspec.structs import replace

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
from training.improve.formats.parity import compare
from training.improve.formats.result import Export, ExportRow
from training.packaging.export import parity_rows, predict, run
from training.recipe import Recipe, Split

ROUNDS = 20  # rounds of timing
SIZES = {"p50_ms": 1, "p50_64_ms": 64}  # rows of one call, by the column of its time


@dataclass(frozen=True)
class Work:
    """A champion that is exported, and the rows that every file must answer as its program does.

    Attributes:
        expected: the program's output for the rows.
    """

    recipe: Recipe[Any]
    source: Source
    split: Split
    expected: Array


def formats(litert: Path) -> dict[str, Format]:
    """Return every format by name.

    Args:
        litert: Python of the environment that holds litert-torch.
    """
    every: tuple[Format, ...] = (Onnx(), TorchProgram(), TensorFlowLite(litert), OpenVINO())
    return {kind.name: kind for kind in every}


def export_champion(
    recipe: Recipe[Any],
    registry: Registry,
    chosen: Sequence[Format],
    *,
    cache: Path,
    output: Path,
    step: Callable[[str], None] = lambda text: None,
) -> Export:
    """Write a champion in some formats; a file whose answers differ is not kept.

    Args:
        output: folder of the files, which are called ``MODEL-VERSION``; the contract lies beside them.

    Raises:
        ArchiveError: there is no champion, or its archive is not as registered.
        DataError: the data cannot be had, or is not what the champion was trained on.
    """
    started, threads = time.perf_counter(), torch.get_num_threads()
    step("reading the champion and its data")
    with tempfile.TemporaryDirectory() as folder:
        source, split = _open(recipe, registry, cache, Path(folder))
        work = Work(recipe, source, split, predict(source.program.module(), split))
        rows, engines, failed = {}, {}, {}
        for kind in chosen:
            step(f"exporting to {kind.name}, and comparing {len(split):,} rows")
            try:
                rows[kind.name], engines[kind.name] = _export(kind, work, Path(folder), output)
            except ExportError as error:
                failed[kind.name] = str(error)
        if rows:
            step("measuring the time of each")
            (output / f"{_stem(source)}.contract.json").write_bytes(source.contract.to_json())
            for name, times in _times(recipe, engines, split).items():
                rows[name] = replace(rows[name], **times)
    torch.set_num_threads(threads)  # the torch engine sets it for the whole process
    return Export(
        model=recipe.name,
        version=source.contract.version,
        seconds=round(time.perf_counter() - started, 1),
        machine=machine(),
        compared_rows=len(split),
        rows=list(rows.values()),
        failed=failed,
    )


def _open(recipe: Recipe[Any], registry: Registry, cache: Path, folder: Path) -> tuple[Source, Split]:
    contract = unpack(registry, recipe.name, folder)
    path = folder / PROGRAM
    _, data = learned_from(recipe, contract, cache)
    split = parity_rows(recipe, data)
    row = {name: values[:1] for name, values in split.inputs.items()}
    return Source(contract, torch.export.load(path), path, row), split


def _export(kind: Format, work: Work, folder: Path, output: Path) -> tuple[ExportRow, Engine]:
    kind.require_runtime()
    folder, contract = folder / kind.name, work.source.contract
    folder.mkdir()
    kind.write_files(work.source, folder)
    engine = kind.open(folder, contract)
    difference = compare(contract.task, work.expected, run(work.recipe, engine, work.split, contract.graph_outputs))
    figures = msgspec.to_builtins(difference)
    if not difference.is_rounding:
        measured = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        raise ExportError(
            f"{contract.name} as {kind.name} answers otherwise than its program ({measured}); it is not kept"
        )
    output.mkdir(parents=True, exist_ok=True)
    names = {name: f"{_stem(work.source)}{Path(name).suffix}" for name in kind.files}
    for name, final in names.items():
        write_atomically(output / final, (folder / name).read_bytes())
    row = ExportRow(
        format=kind.name,
        file=names[kind.files[0]],
        bytes=sum((folder / name).stat().st_size for name in kind.files),
        runtime=f"{kind.runtime} {importlib.metadata.version(kind.runtime).partition('+')[0]}",
        batch=kind.batch,
        **figures,
    )
    return row, engine


def _times(recipe: Recipe[Any], engines: Mapping[str, Engine], split: Split) -> dict[str, dict[str, float]]:
    """Return the median times of each engine, in ms by column."""
    times: dict[str, dict[str, float]] = {name: {} for name in engines}
    for column, size in SIZES.items():
        rows = recipe.batch({name: values[:size] for name, values in split.inputs.items()})
        for name, seconds in medians(
            {name: partial(engine.run, rows) for name, engine in engines.items()}, ROUNDS
        ).items():
            times[name][column] = round(1000 * seconds, 4)
    return times


def _stem(source: Source) -> str:
    return f"{source.contract.name}-{source.contract.version}"
