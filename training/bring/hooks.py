"""A model with code of its own: its inputs and outputs are those of its hooks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from handlers.contract import DTYPES, Array, TensorSpec
from handlers.engine.hooks import HookError, Hooks
from handlers.features import defaults_of, filled
from handlers.message import InputError
from training.bring.adapt import KINDS
from training.bring.feeds import Feed, Pixels
from training.bring.graph import BringError, Brought, Original, Port
from training.bring.heads import Answers
from training.packaging.contents import imported_by

WANTED = {
    "column": "one number a row, of shape (n,)",
    "softmax": "probabilities, of which each row has the sum 1",
    "sigmoid": "the probabilities of both labels, of shape (n, 2)",
}


def hooked(model: Brought, file: Path, inputs: Sequence[TensorSpec]) -> Brought:
    """Return a model whose inputs are those before its hooks.

    Args:
        inputs: as the contract's file declares them; none for those of the graph.

    Raises:
        BringError: the hooks cannot be imported, or a worker makes tensors of what the model takes.
    """
    if model.intake:
        raise BringError(f"hooks go around a graph of tensors; {model.file} takes what a worker makes tensors of")
    try:
        hooks = Hooks(file)
    except (HookError, OSError) as error:
        raise BringError(f"{file}: {error}") from error
    ports = tuple(Port(spec.name, KINDS[spec.datatype], ("batch", *spec.shape[1:])) for spec in inputs)
    names = tuple(port.name for port in model.outputs)
    original = _Hooked(hooks, model.session, names)
    needed = ", ".join(imported_by(file.read_bytes())) or "no package of its own"
    notes = (*model.notes, f"{file.name} runs in the worker; it needs {needed}")
    return replace(
        model, inputs=ports or model.inputs, columns=(), example=b"", original=original, hooks=file, notes=notes
    )


def with_outputs(model: Brought, feeds: Sequence[Feed], rows: Mapping[str, Array]) -> Brought:
    """Return the model with the outputs that its hooks make of the first row; without hooks, as it is.

    Raises:
        BringError: they cannot be computed.
    """
    if not isinstance(model.original, _Hooked):
        return model
    specs = [spec for feed in feeds for spec in feed.specs]
    first = filled({name: array[:1] for name, array in rows.items()}, defaults_of(specs))
    outputs = model.original.named({feed.port.name: feed.raw(first) for feed in feeds})
    ports = []
    for name, array in outputs.items():
        datatype = next((each for each, dtype in DTYPES.items() if array.dtype == dtype), None)
        datatype = "BYTES" if array.dtype.kind == "U" else datatype
        if datatype is None:
            raise BringError(f"postprocess answers {name} as {array.dtype}, which no protocol has")
        ports.append(Port(name, KINDS[datatype], (None, *array.shape[1:])))
    return replace(model, outputs=tuple(ports))


def check_final(model: Brought, feeds: Sequence[Feed], answers: Answers) -> None:
    """Check that hooks, where there are some, take and answer what the contract says.

    Raises:
        BringError: something would have to be added to the graph.
    """
    for feed in feeds:
        if (model.hooks or model.served) and feed.pixels and not _takes_pixels(feed, feed.pixels):
            wanted = "UINT8 of shape [-1, height, width, 3] or [-1, height, width]"
            rest = "with hooks, a picture must be {}, and preprocess does the rest"
            raise BringError((rest if model.hooks else "where there is no graph, a picture must be {}").format(wanted))
    if not model.hooks:
        return
    ports = model.outputs
    for feed in feeds:
        if not feed.batched:
            raise BringError(f"with hooks, each input needs a batch; {feed.port.name} has none")
    for head in answers.heads:
        is_final = head.step == "column" and len(ports[head.at].sizes) == 1
        if head.step and not is_final:
            raise BringError(f"with hooks, postprocess must answer {WANTED[head.step]}")
        if head.name != ports[head.at].name:
            raise BringError(f"with hooks, postprocess must answer {ports[head.at].name} under the name {head.name}")


def _takes_pixels(feed: Feed, pixels: Pixels) -> bool:
    """Tell whether the pixels of a picture are what a model takes."""
    (spec,) = feed.specs
    is_same = (spec.datatype, spec.shape[1:]) == (feed.port.datatype, feed.port.sizes[1:])
    return is_same and not (pixels.has_arithmetic or pixels.is_bgr)


@dataclass(frozen=True)
class _Hooked:
    """A model in its own framework between its hooks."""

    hooks: Hooks
    inner: Original
    names: tuple[str, ...]  # of the graph's outputs

    def run(self, tensors: Mapping[str, Array]) -> list[Array]:
        """Compute the outputs."""
        return list(self.named(tensors).values())

    def named(self, tensors: Mapping[str, Array]) -> dict[str, Array]:
        """Compute the outputs by name."""
        try:
            outputs = self.inner.run(self.hooks.preprocess(tensors))
            return dict(self.hooks.postprocess(dict(zip(self.names, outputs, strict=True))))
        except (HookError, InputError) as error:
            raise BringError(f"hooks: {error}") from error
