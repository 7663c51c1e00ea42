"""Learning from feedback: served rows whose truth is known by now, beside a recipe's own data.

    marloop train flights --promote never --feedback rows.jsonl --hold-out 0.1

The file has one JSON object a line, with the features as they were captured (``handlers/observe/events.py``):
``{"time": "2013-03-01T10:00:00+00:00", "features": {"distance": 1400.0, "carrier": "UA", …}, "label": 227.0}``.
The newest rows are held out, so that the version is measured on rows after all that it learned.
"""

import math
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np

from handlers import json_io
from handlers.batch import Decoded
from handlers.contract import Array, ModelContract
from handlers.contract.model_card import FeedbackRows
from handlers.features import defaults_of, is_missing
from handlers.formats.codec import Codec
from handlers.formats.requests import native_request
from handlers.formats.tokens import PAD
from handlers.message import JSON, InputError, Request
from handlers.observe.events import MOST_VALUES, is_sent_whole
from serving.archive import ASSETS
from training.data import DataError, sha256
from training.packaging.contents import codec_of
from training.packaging.interface import contract_without_version
from training.recipe import Data, Recipe, Split
from training.statistics.labels import label_fault
from training.statistics.targets import targets_of

SMALLEST_BATCH = 32  # rows: smaller ones are noise, and take ever longer
FEWEST_HELD_OUT = 2  # rows: a single one has no spread to measure an R² against


@dataclass(frozen=True)
class Feedback:
    """The content of a file of feedback.

    Attributes:
        rows: the rows that fit the contract, in order of time, with ``time``.
        since: time of the oldest of them.
        until: time of the newest.
        sha256: checksum of the file.
        refused: number of rows that did not fit.
        fault: reason of the first of these; empty where all fit.
    """

    rows: Split
    since: datetime
    until: datetime
    sha256: str
    refused: int
    fault: str


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    time: Annotated[datetime, msgspec.Meta(tz=True)]
    features: dict[str, msgspec.Raw]
    label: Any


class _Row(NamedTuple):
    time: datetime
    decoded: Decoded
    target: float | list[float]


_LINE = msgspec.json.Decoder(_Line)


def learnable(contract: ModelContract) -> str | None:
    """Return why a model cannot learn from its captured requests; None if it can."""
    if contract.task in ("generation", "tensors", "opaque"):
        return f"a model of the task {contract.task} has no labels"
    large = [spec.name for spec in contract.inputs if not is_sent_whole(spec)]
    if large:
        why = f"has over {MOST_VALUES} values a row or sizes that vary"
        return f"of {', '.join(large)}, which {why}, only the mean is captured"
    return None


def as_many_steps(hp: Any, before: int, now: int) -> Any:
    """Shrink the batches of a preset for fewer rows than it was made for.

    In batches of the same size few rows would be too few steps; in smaller ones an epoch has as many as before.

    Args:
        before: rows that the preset was made for.
        now: rows to learn.
    """
    steps = math.ceil(before / hp.batch_size)
    smaller = max(SMALLEST_BATCH, math.ceil(now / steps))
    return replace(hp, batch_size=min(hp.batch_size, smaller))


def extend(
    recipe: Recipe[Any], hp: Any, data: Data, path: Path, share: float, step: Callable[[str], None] = lambda text: None
) -> Data:
    """Extend a recipe's data by feedback: the newest rows are held out, the others are learned as well.

    Args:
        share: share of the feedback's rows that is held out.

    Returns:
        With ``feedback`` for the lineage. The checksum differs from that of data without these rows, or with another
        share held out.

    Raises:
        DataError: the file cannot be read or is damaged, or it has too few rows that fit.
        ValueError: the share is not between 0 and 1.
    """
    feedback = read_feedback(path, recipe, data)
    if feedback.refused:
        step(f"{feedback.refused:,} rows of feedback do not fit and are left out; the first: {feedback.fault}")
    learned, held_out = split(feedback, share)
    step(f"learning {len(learned):,} rows of feedback as well; the {len(held_out):,} newest are held out")
    extended = recipe.with_feedback(data, learned, held_out, hp)
    assert held_out.time is not None
    about = FeedbackRows(
        rows=len(feedback.rows),
        held_out=len(held_out),
        since=feedback.since.isoformat(),
        until=feedback.until.isoformat(),
        held_out_since=datetime.fromtimestamp(int(held_out.time[0]), UTC).isoformat(),
        sha256=feedback.sha256,
        refused=feedback.refused,
    )
    digest = sha256(data.sha256.encode(), feedback.sha256.encode(), str(len(held_out)).encode())
    return replace(extended, sha256=digest, feedback=about)


def read_feedback(path: Path, recipe: Recipe[Any], data: Data) -> Feedback:
    """Read a file of labelled rows; each is decoded as the request that it once was.

    Args:
        data: names the inputs, and has the tokenizer of a model of texts.

    Raises:
        DataError: the model cannot learn from feedback, the file cannot be read or is damaged, or no row of it fits.
    """
    contract = contract_without_version(recipe, data)
    if reason := learnable(contract):
        raise DataError(f"{recipe.name} cannot learn from feedback: {reason}")
    content = _content(path)
    codec = _codec(recipe, contract, data)
    rows, faults = _rows(path, content, codec)
    if not rows:
        why = (
            f"none of its {len(faults):,} rows fits {recipe.name}; the first: {faults[0]}" if faults else "it is empty"
        )
        raise DataError(f"{path}: {why}")
    rows.sort(key=lambda row: row.time)
    since, until = (rows[i].time.astimezone(UTC) for i in (0, -1))
    return Feedback(_split(rows, codec, data), since, until, sha256(content), len(faults), "".join(faults[:1]))


def split(feedback: Feedback, share: float) -> tuple[Split, Split]:
    """Return the rows to learn, and the newest share of them, which is held out.

    Rows of one second stay together: a comparison on all rows since the first held-out one must meet none that was
    learned.

    Raises:
        DataError: there are too few rows to hold any out.
        ValueError: the share is not between 0 and 1.
    """
    if not 0 < share < 1:
        raise ValueError(f"the share {share:g} of the feedback cannot be held out: it must be between 0 and 1")
    rows, time = feedback.rows, feedback.rows.time
    assert time is not None
    held_out = int(len(rows) * share)
    if held_out < FEWEST_HELD_OUT:
        needed = math.ceil(FEWEST_HELD_OUT / share)
        raise DataError(
            f"{len(rows)} rows of feedback are too few to hold {share:.3g} of them out: give {needed} or more"
        )
    border = time[-held_out]
    first = int(np.searchsorted(time, border)) or int(np.searchsorted(time, border, "right"))
    if len(rows) - first < FEWEST_HELD_OUT:
        raise DataError(
            f"the {len(rows)} rows of feedback are nearly all of one second: which to hold out as the newest?"
        )
    return rows.head(first), rows.tail(len(rows) - first)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def _codec(recipe: Recipe[Any], contract: ModelContract, data: Data) -> Codec:
    with tempfile.TemporaryDirectory() as folder:
        assets = Path(folder, ASSETS)
        assets.mkdir()
        for name, content in data.assets.items():
            (assets / name).write_bytes(content)
        return codec_of(recipe.entry_point).open(Path(folder), contract, 1)


def _rows(path: Path, content: bytes, codec: Codec) -> tuple[list[_Row], list[str]]:
    """Return the rows that fit, and the fault of each of the others."""
    rows, faults = [], []
    for number, line in enumerate(content.splitlines(), 1):
        try:
            labelled = json_io.decode(_LINE, line)
        except InputError as error:
            raise DataError(f"{path} is damaged in line {number}, {error.path}: {error.message}") from error
        try:
            target = _target(codec.contract, labelled.label)
            rows.append(_Row(labelled.time, codec.decode(_request(codec.contract, labelled.features)), target))
        except InputError as error:
            expected = f"; right would be {error.expected}" if error.expected else ""
            faults.append(f"line {number}, {error.path}: {error.message}{expected}")
    return rows, faults


def _request(contract: ModelContract, features: Mapping[str, msgspec.Raw]) -> Request:
    """Return the native request that a row was, or could have been."""
    names = [spec.name for spec in contract.inputs]
    if features.keys() != set(names):
        raise InputError("wrong_type", f"its features are {', '.join(features) or 'none'}", expected=", ".join(names))
    return Request(msgspec.json.encode(native_request(contract, features)), {"content-type": JSON})


def _target(contract: ModelContract, label: Any) -> float | list[float]:
    """Convert a label to a split's target: a number, one for each of several targets, or the index of a class."""
    if expected := label_fault(contract, label):
        raise InputError("wrong_type", f"the label is {label!r}", "$.label", expected)
    if contract.task == "classification":
        return contract.labels.index(label)
    values = [float(target.value(label)) for target in targets_of(contract)]
    if max(map(abs, values)) > float(np.finfo(np.float32).max):
        raise InputError("out_of_range", f"the label is {label}", "$.label", "a number that FP32 holds")
    return values if contract.has_targets else values[0]


def _split(rows: list[_Row], codec: Codec, data: Data) -> Split:
    """Stack rows into arrays of the recipe's own types, with as many tokens a row."""
    own = data.train
    tensors = codec.stack([row.decoded for row in rows])
    tensors |= {name: _as_long(tensors[name], own.inputs[name].shape[1]) for name in own.texts}
    return Split(
        {spec.name: tensors[spec.name].astype(own.inputs[spec.name].dtype, copy=False) for spec in data.inputs},
        np.array([row.target for row in rows], own.target.dtype),
        texts={name: np.array([_text(row, name) for row in rows], object) for name in own.texts},
        time=np.array([math.floor(row.time.timestamp()) for row in rows], np.int64),
        missing={
            name: is_missing(np.concatenate([row.decoded.tensors[name] for row in rows]))
            for name in defaults_of(data.inputs)
        },
    )


def _text(row: _Row, name: str) -> str:
    assert row.decoded.sent is not None
    text: str = row.decoded.sent[name][0]
    return text


def _as_long(tokens: Array, length: int) -> Array:
    padding = max(0, length - tokens.shape[1])
    return np.pad(tokens[:, :length], ((0, 0), (0, padding)), constant_values=PAD)
