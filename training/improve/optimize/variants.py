"""The variants of a champion: it and its students, each as float32 and with smaller numbers."""

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from handlers.contract import Array
from serving.archive import GRAPHS
from training.champion import Champion, FittedChampion
from training.improve.optimize import quantize
from training.improve.optimize.quantize import NotMadeError
from training.improve.optimize.students import plan
from training.packaging.export import check_parity, export
from training.recipe import Trained

REFERENCE = "float32"  # the champion as it is
CALIBRATION_ROWS = 500  # training rows, evenly spaced
CALIBRATION_BATCH = 10
UNTAUGHT = {"pruned, distilled": "a smaller network learns again, which needs a recipe"}


@dataclass(frozen=True)
class Variant:
    """One way to serve the model.

    Attributes:
        name: such as ``pruned 50 %, int8 static``.
        graphs: folder of its ``model.onnx``, and of ``model.pt2`` where there is one, which stays float32.
        trained: the module of both graphs; None where no recipe knows it.
        converted: numbers of the ONNX graph, such as ``int8 static``; empty for float32.
    """

    name: str
    graphs: Path
    trained: Trained | None
    converted: str = ""


def make(
    champion: Champion,
    folder: Path,
    *,
    shares: tuple[float, ...],
    epochs: int | None,
    checkpoints: Path,
    step: Callable[[str], None],
) -> tuple[list[Variant], dict[str, str]]:
    """Make all variants of a champion.

    Args:
        shares: shares of the channels to remove; each gives a pruned student.
        epochs: epochs of fine-tuning after pruning; None for half of the champion's.

    Returns:
        The variants, the champion itself first, and by name why others could not be made.

    Raises:
        ParityError: a student's graphs do not agree with its module.
    """
    teacher = champion.trained if isinstance(champion, FittedChampion) else None
    variants, left_out = [Variant(REFERENCE, champion.graphs, teacher)], {} if teacher else dict(UNTAUGHT)
    for name, learn in (plan(teacher, shares, epochs, checkpoints) if teacher else {}).items():
        step(f"making {name}")
        try:
            trained = learn()
        except NotMadeError as error:
            left_out[name] = str(error)
            continue
        graphs = folder / str(len(variants))
        graphs.mkdir()
        export(trained, champion.contract, graphs)
        check_parity(trained, champion.contract, graphs)
        variants.append(Variant(name, graphs, trained))
    for source in list(variants):
        for kind, convert in _conversions(source, champion).items():
            name = f"{source.name}, {kind}" if source.name != REFERENCE else kind
            step(f"making {name}")
            graphs = folder / str(len(variants) + len(left_out))
            try:
                variants.append(_converted(source, graphs, name, kind, convert))
            except NotMadeError as error:
                left_out[name] = str(error)
    return variants, left_out


def calibration(champion: Champion) -> Iterator[Mapping[str, Array]]:
    """Yield training rows, evenly spaced, in batches as the graph takes them."""
    train = champion.data.train
    rows = range(0, len(train), -(-len(train) // CALIBRATION_ROWS))
    for start in range(0, len(rows), CALIBRATION_BATCH):
        chosen = list(rows[start : start + CALIBRATION_BATCH])
        yield champion.model.batch({name: values[chosen] for name, values in train.inputs.items()})


def _conversions(source: Variant, champion: Champion) -> dict[str, Callable[[Path, Path], None]]:
    if source.name == "small":  # it only shows what its teacher is worth to `distilled`
        return {}
    static = partial(_static_int8, champion)
    if source.name != REFERENCE:
        return {"int8 dynamic": quantize.dynamic_int8, "int8 static": static}
    return {"int8 dynamic": quantize.dynamic_int8, "int8 static": static, "float16": quantize.float16}


def _static_int8(champion: Champion, source: Path, target: Path) -> None:
    quantize.static_int8(source, target, calibration(champion))


def _converted(source: Variant, graphs: Path, name: str, kind: str, convert: Callable[[Path, Path], None]) -> Variant:
    onnx, program = GRAPHS
    graphs.mkdir()
    convert(source.graphs / onnx, graphs / onnx)
    if (source.graphs / program).exists():
        os.link(source.graphs / program, graphs / program)
    return Variant(name, graphs, source.trained, kind)
