"""The served graph of an imported model, or its file, and whether it answers as the file's own framework does."""

import shutil
from pathlib import Path

import msgspec
import numpy as np

from handlers.engine.padding import Padding
from handlers.engine.signature import Input, Signature
from handlers.features import defaults_of, filled
from serving.archive import ASSETS, HOOKS, ONNX, SIGNATURE
from training.bring.adapt import adapt
from training.bring.draft import Draft
from training.bring.graph import AsItIs, BringError, Served
from training.packaging.parity import TOLERANCE, largest_difference

LONGER = 3  # values that the example's row is padded by


def write_graph(draft: Draft, folder: Path) -> None:
    """Write the served graph, adapted to the contract or with its hooks beside it, and what its worker needs beside."""
    model = draft.model
    if model.served:
        shutil.copyfile(model.served.path, folder / model.served.name)
        (folder / SIGNATURE).write_bytes(msgspec.json.format(msgspec.json.encode(_signature(draft, model.served))))
    else:
        graph = model.converted if model.hooks else adapt(model, draft.feeds, draft.answers, draft.runner.bare)
        (folder / ONNX).write_bytes(graph.SerializeToString(deterministic=True))
    if model.hooks:
        (folder / HOOKS).write_bytes(model.hooks.read_bytes())
    if model.intake:
        (folder / ASSETS).mkdir()
        for name, content in model.intake.assets.items():
            (folder / ASSETS / name).write_bytes(content)


def _check_padding(draft: Draft, served: Served) -> None:
    """Compare the answer to a row with its answer beside a longer one, that it is padded up to."""
    try:
        padding = Padding(draft.contract)
    except ValueError as error:
        raise BringError(str(error)) from error
    if not padding.names:
        return
    inputs = draft.contract.inputs
    row = filled({name: array[:1] for name, array in draft.rows.items()}, defaults_of(inputs))
    sizes = padding.sizes(row)
    most = {axis: size for spec in inputs for axis, size in zip(spec.axes[1:], spec.largest, strict=False)}
    longer = {axis: min(size + LONGER, most[axis]) for axis, size in sizes.items()}
    beside = padding.cut(served.run(padding.pad(row, longer)), sizes)
    for name, alone in served.run(row).items():
        gap = largest_difference(beside[name], alone, equal_nan=True)
        if not gap <= TOLERANCE:
            raise BringError(
                f"{name} of a padded row differs by {gap:.3g} from its answer alone: the graph does not leave the "
                "padding out; without a pad, rows of other sizes run apart"
            )


def check_parity(draft: Draft, folder: Path) -> dict[str, int | float]:
    """Compare the served graph with the file's on all given rows.

    Args:
        folder: as ``write_graph`` leaves it.

    Returns:
        ``rows``, and the largest difference: relative for values over 1, and for a number over 1 % of the largest.

    Raises:
        BringError: a difference is over the tolerance; names the row.
    """
    engine = draft.engine
    served_by = Served(folder, draft.contract, engine)
    worst, at = 0.0, 0
    for some, outputs in draft.runner.chunks(draft.rows):
        served = served_by.run(draft.model.encoded(some))
        for head in draft.answers.heads:
            expected = head.apply(outputs)
            # FP32 rounds a sum of large leaves or weights, however small the sum is.
            unit = max(1.0, float(np.abs(expected).max()) / 100) if head.step == "column" else 1.0
            for i in range(len(expected)):
                own, right = served[head.name][i : i + 1], expected[i : i + 1]
                gap = largest_difference(own, right, equal_nan=True, unit=unit)
                worst = max(worst, gap)
                if not gap <= TOLERANCE:
                    raise BringError(
                        f"{head.name} of row {at + i} differs by {gap:.3g} from the answer of {draft.model.file}, "
                        f"more than {TOLERANCE:g}; nothing is registered"
                    )
        at += len(next(iter(some.values())))
    _check_padding(draft, served_by)
    return {"rows": at, engine: worst}


def _signature(draft: Draft, served: AsItIs) -> Signature:
    bare = tuple(sorted(draft.runner.bare))
    if draft.model.hooks:
        inputs = tuple(Input(name) for name in served.inputs)
        return Signature(inputs, served.outputs, (), bare, served.packages, served.trusted)
    entries = {feed.port.name: feed.entry for feed in draft.feeds}
    inputs = tuple(entries[name] for name in served.inputs)
    return Signature(inputs, served.outputs, draft.answers.heads, bare, served.packages, served.trusted)
