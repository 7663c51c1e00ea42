"""The held-out rows that a model is most wrong about, with its inputs."""

from dataclasses import dataclass, field, replace

import numpy as np

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.formats.pictures import png_address
from training.recipe import Split

LONGEST = 400  # most characters of a text that are shown


@dataclass(frozen=True)
class Mistake:
    """A wrong answer.

    Attributes:
        row: index among the held-out rows.
        size: the error of a regression, the probability of the truth in a classification.
        values: inputs by name, as text.
        pictures: inputs by name, as ``data:`` addresses of PNG pictures.
    """

    row: int
    truth: str
    answer: str
    size: str
    values: dict[str, str] = field(default_factory=dict)
    pictures: dict[str, str] = field(default_factory=dict)


def worst(contract: ModelContract, split: Split, output: Array, pictures: bool, most: int = 12) -> list[Mistake]:
    """Return the worst mistakes, the worst first.

    Args:
        output: the model's, for these rows.
        pictures: whether an array of bytes is a picture.

    Returns:
        The largest errors of a regression, of several targets in the first; the wrong answers of a classification that
        gave the truth the smallest probability.
    """
    rows = np.arange(len(split))
    if contract.has_targets:
        split, output = replace(split, target=split.target[:, 0]), output[:, 0]
    if contract.task == "classification":
        order = output[rows, split.target]
        rows = rows[output.argmax(1) != split.target]
    else:
        order = -np.abs(output.astype(np.float64) - split.target)
        rows = rows[order < 0]
    rows = rows[np.argsort(order[rows], kind="stable")][:most]
    return [_mistake(contract, split, output, int(row), pictures) for row in rows]


def _mistake(contract: ModelContract, split: Split, output: Array, row: int, pictures: bool) -> Mistake:
    if contract.task == "classification":
        vote = int(output[row].argmax())
        truth, answer = contract.labels[split.target[row]], f"{contract.labels[vote]} ({output[row, vote]:.1%})"
        size = f"{output[row, split.target[row]]:.2%}"
    else:
        truth, answer = (f"{values[row]:.6g}" for values in (split.target, output))
        size = f"{float(output[row]) - float(split.target[row]):+.4g}"
    shown = {spec.name: spec for spec in contract.inputs if pictures and spec.datatype == "UINT8"}
    values = {spec.name: _text(spec, split, row) for spec in contract.inputs if spec.name not in shown}
    return Mistake(row, truth, answer, size, values, {name: png_address(split.inputs[name][row]) for name in shown})


def _text(spec: TensorSpec, split: Split, row: int) -> str:
    if spec.name in split.texts:
        sent = split.row([spec], row)[spec.name]
        text = "missing" if sent is None else str(sent)
        return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
    value = split.inputs[spec.name][row]
    if (spec.nullable or spec.timestamp) and not isinstance(sent := split.row([spec], row)[spec.name], float):
        return "missing" if sent is None else str(sent)
    if spec.categories:
        return spec.categories[int(value)]
    return f"{value:.6g}" if spec.is_scalar else np.array2string(value, threshold=20, precision=4)
