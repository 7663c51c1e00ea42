"""Export a champion: write each format, compare its answers with the program's, and time it in its own runtime.

marloop export fashion
"""

import dataclasses
import importlib.metadata
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec
import numpy as np
import torch
from msgspec import UNSET
from msgspec.structs import replace

from handlers.contract import Array
from handlers.engine import Engine, load_engine
from serving.archive import PROGRAM
from serving.documents import write_atomically
from serving.registry import Registry
from training.champion import Champion, ChampionSource
from training.figures.machine import machine
from training.figures.timing import medians
from training.improve.formats.format import ExportError, Format, Source, naming_the_operator
from training.improve.formats.graphs import Onnx, TorchProgram
from training.improve.formats.litert import TensorFlowLite
from training.improve.formats.openvino_ir import OpenVINO
from training.improve.formats.parity import compare_batches
from training.improve.formats.result import Export, ExportRow
from training.packaging.export import answers, parity_rows
from training.recipe import Split
from training.recipe.measured import Measured

ROUNDS = 20  # rounds of timing
BATCH = 100  # most rows of one call that compares
SIZES = {"p50_ms": 1, "p50_64_ms": 64}  # rows of one call, by the column of its time


@dataclass(frozen=True)
class Work:
    """A champion that is exported, and the rows that every file must answer as its own graph does.

    Attributes:
        graph: ``program`` of ``torch.export``, or the ``graph`` that was imported.
        expected: its outputs for the rows, by batches.
    """

    champion: Champion
    source: Source
    split: Split
    graph: str
    expected: Sequence[Mapping[str, Array]]

    def outputs(self, engine: Engine) -> list[Mapping[str, Array]]:
        """Return an engine's outputs for the rows, by batches."""
        return list(answers(self.champion.model, engine, self.split, self.source.contract.most_rows(BATCH)))


def formats(litert: Path) -> dict[str, Format]:
    """Return every format by name.

    Args:
        litert: Python of the environment that holds litert-torch.
    """
    every: tuple[Format, ...] = (Onnx(), TorchProgram(), TensorFlowLite(litert), OpenVINO())
    return {kind.name: kind for kind in every}


def export_champion(
    champion: ChampionSource,
    registry: Registry,
    chosen: Sequence[Format],
    *,
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
        work = _open(champion, registry, Path(folder))
        source, split = work.source, work.split
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
            for name, times in _times(work.champion.model, engines, split, source.contract.most_rows(BATCH)).items():
                rows[name] = replace(rows[name], **times)
    torch.set_num_threads(threads)  # the torch engine sets it for the whole process
    return Export(
        model=champion.name,
        version=source.contract.version,
        seconds=round(time.perf_counter() - started, 1),
        machine=machine(),
        compared_rows=len(split),
        rows=list(rows.values()),
        failed=failed,
        graph=UNSET if work.graph == "program" else work.graph,
    )


def _open(source: ChampionSource, registry: Registry, folder: Path) -> Work:
    champion = source.open(registry, folder)
    contract = champion.contract
    split = parity_rows(champion.model, champion.data)
    row = {name: values[:1] for name, values in split.inputs.items()}
    graph, kind = ("program", "torch") if (folder / PROGRAM).exists() else ("graph", "onnxruntime")
    work = Work(champion, Source(contract, folder, row), split, graph, [])
    engine = load_engine(kind, folder, contract, torch.get_num_threads())
    return dataclasses.replace(work, expected=work.outputs(engine))


def _export(kind: Format, work: Work, folder: Path, output: Path) -> tuple[ExportRow, Engine]:
    kind.require_runtime()
    folder, contract = folder / kind.name, work.source.contract
    folder.mkdir()
    kind.write_files(work.source, folder)
    with naming_the_operator(contract.name, kind.name):
        engine = kind.open(folder, contract)
        outputs = work.outputs(engine)
    difference = compare_batches(contract, work.expected, outputs)
    figures = msgspec.to_builtins(difference)
    if not difference.is_rounding:
        measured = ", ".join(f"{name} {value:.3g}" for name, value in figures.items())
        raise ExportError(
            f"{contract.name} as {kind.name} answers otherwise than its {work.graph} ({measured}); it is not kept"
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


def _times(model: Measured, engines: Mapping[str, Engine], split: Split, most: int) -> dict[str, dict[str, float]]:
    """Return the median times of each engine, in ms by column; batches of more than ``most`` rows are left out."""
    times: dict[str, dict[str, float]] = {name: {} for name in engines}
    for column, size in SIZES.items():
        if size > most:
            continue
        rows = model.batch({name: values[np.arange(size) % len(split)] for name, values in split.inputs.items()})
        for name, seconds in medians(
            {name: partial(engine.run, rows) for name, engine in engines.items()}, ROUNDS
        ).items():
            times[name][column] = round(1000 * seconds, 4)
    return times


def _stem(source: Source) -> str:
    return f"{source.contract.name}-{source.contract.version}"
