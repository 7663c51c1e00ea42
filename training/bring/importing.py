"""From a draft to a registered archive."""

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import numpy as np

from handlers.contract import ModelContract
from serving.archive import ONNX
from serving.registry import Registry, file_sha256
from training.bring.draft import Draft
from training.bring.graph import BringError
from training.bring.rows import native_row
from training.bring.served import check_parity, write_graph
from training.bring.table import Table, tensors_of, truth_of
from training.champion.imported import ImportedModel
from training.packaging.lineage import with_lineage
from training.packaging.packable import Packable
from training.packaging.reference import errors_of, lengths_of, summaries
from training.packaging.registration import Promote, Result, register
from training.packaging.serving_settings import serving_of
from training.recipe import Data, Serving, Split

SECONDS = 2.0  # that the largest request may take here
DEADLINE = 20  # s until a worker is replaced whose requests' sizes differ: the example's time says little of them
MOST_ROWS, MOST_BYTES = 1024, 64_000_000  # of one request


def bring(
    draft: Draft, registry: Registry, promote: Promote = "auto", step: Callable[[str], None] = lambda text: None
) -> Result:
    """Package a model and register it as a new version.

    Raises:
        BringError: the served graph answers otherwise than the file's; nothing is registered.
    """
    with tempfile.TemporaryDirectory() as folder:
        graphs = Path(folder)
        draft, parity = _written(draft, graphs, step)
        contract = msgspec.structs.replace(with_lineage(draft.contract, parity=parity), max_rows=_max_rows(draft))
        if draft.table is not None:
            step(f"summarizing {len(draft.table):,} rows of {draft.table.path.name}")
            contract = _with_data(draft, contract, draft.table)
        file = draft.model.served.name if draft.model.served else ONNX
        contract = with_lineage(contract, graph_sha256={file: file_sha256(graphs / file)})
        parts = _parts(draft)
        parts = replace(parts, serving=serving_of(parts, registry.store))
        try:
            example = parts.example(contract, native_row(contract.inputs, draft.rows), graphs)
        except RuntimeError as error:
            raise BringError(f"{error}; give another row: --example") from error
        contract = msgspec.structs.replace(contract, example=example)
        step("packaging and registering")
        return register(contract, parts.packing(graphs), registry, promote)


def _written(draft: Draft, graphs: Path, step: Callable[[str], None]) -> tuple[Draft, dict[str, int | float]]:
    """Write what is served and check its answers; where the graph's are others, write the file itself."""
    write_graph(draft, graphs)
    step("checking that the served graph answers as the file's does")
    try:
        return draft, check_parity(draft, graphs)
    except BringError as error:
        model = draft.model
        if model.served or not model.as_it_is:
            raise
        step(f"{str(error).partition('; nothing')[0]}: {model.as_it_is.cost}")
        draft = replace(draft, model=replace(model, graph=None))
        (graphs / ONNX).unlink()
        write_graph(draft, graphs)
        return draft, check_parity(draft, graphs)


def _parts(draft: Draft) -> Packable:
    intake = draft.model.intake
    if draft.contract.inputs[0].picture or intake:
        entry_point = intake.entry_point if intake else "image"
        return Packable(
            draft.contract.name, draft.description, entry_point, Serving(engine=draft.engine, response_timeout=DEADLINE)
        )
    return Packable(draft.contract.name, draft.description, "tabular", Serving(engine=draft.engine))


def _with_data(draft: Draft, contract: ModelContract, table: Table) -> ModelContract:
    """Add the reference and, where the truth is known, the evaluation."""
    tensors = tensors_of(contract.inputs, table)
    output, errors = None, None
    if contract.task != "tensors":
        parts = [[head.apply(outputs) for head in draft.answers.heads] for _, outputs in draft.runner.chunks(tensors)]
        output = np.concatenate([np.stack(own, 1) if contract.has_targets else own[0] for own in parts])
    if output is not None and table.truth is not None:
        truth = truth_of(table, contract.labels)
        errors = errors_of(contract, output, truth)
        rows = Split(tensors, truth)
        data = Data(rows.head(0), rows, contract.inputs, contract.lineage.data_sha256)
        from training.statistics import evaluate  # takes a second, which a model without labelled rows need not wait

        evaluation = evaluate.held_out(ImportedModel(contract), data, output)
        contract = msgspec.structs.replace(contract, evaluation=evaluation)
    lengths = {spec.name: lengths_of(tensors[spec.name]) for spec in contract.inputs if spec.is_text}
    order = np.random.default_rng(0).permutation(len(table))
    inputs = {name: array[order] for name, array in (tensors | lengths).items()}
    known = [None if array is None else array[order] for array in (output, errors)]
    return msgspec.structs.replace(contract, reference=summaries(contract, inputs, *known))


def _max_rows(draft: Draft) -> int:
    """Return the most rows of a request: as many as take no longer than ``SECONDS``, or 1 where rows run alone."""
    if not draft.runner.together:
        return 1
    one = {name: array[-1:] for name, array in draft.rows.items()}
    started = time.perf_counter()
    for _ in draft.runner.chunks(one):
        pass
    by_time = SECONDS / max(time.perf_counter() - started, 1e-6)
    size = sum(8 * int(np.prod(spec.largest)) for spec in draft.contract.inputs)
    return int(max(1, min(MOST_ROWS, by_time, MOST_BYTES // size)))
