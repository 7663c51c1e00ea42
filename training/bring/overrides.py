"""The file that overrides parts of a drafted contract, in YAML."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

from handlers.contract import Task, TensorSpec
from handlers.contract.pictures import Picture
from training.bring.feeds import Feed, Layout, Pixels
from training.bring.graph import BringError

_AXES: dict[Layout, tuple[int | None, int, int]] = {"nchw": (1, 2, 3), "nhwc": (3, 1, 2), "nhw": (None, 1, 2)}


class PicturePart(Picture, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """An input of a graph that becomes a picture of the contract, and what the graph gets of its pixels.

    Attributes:
        crop: height and width of the input, where the graph does not say them.
        layout: of the graph's input; told by its sizes where it is not given.
        colours: that the graph takes; by its channels ``rgb`` or ``grey`` where they are not given.
        scale: see ``Pixels``, as for ``mean`` and ``std``; 255 for a graph of floats, where it is not given.
    """

    crop: tuple[int, int] | None = None
    layout: Layout | None = None
    colours: Literal["rgb", "bgr", "grey"] | None = None
    scale: float | None = None
    mean: float | tuple[float, ...] = 0.0
    std: float | tuple[float, ...] = 1.0

    def declared(self, feed: Feed) -> Feed:
        """Return an input of a graph with a picture as the contract's.

        Raises:
            BringError: the graph takes no such picture.
        """
        name, port = feed.specs[0].name, feed.port
        sizes = port.sizes if feed.batched else ("batch", *port.sizes)
        layout = self.layout or _layout(sizes)
        if layout is None or len(sizes) != len(layout):
            raise BringError(f"input {name} {list(sizes)} is no picture of layout {self.layout or 'nchw, nhwc or nhw'}")
        channel, *edges = _AXES[layout]
        channels = 1 if channel is None else sizes[channel]
        channels = channels if isinstance(channels, int) else 1 if self.colours == "grey" else 3
        colours = self.colours or {1: "grey", 3: "rgb"}.get(channels)
        if colours is None or channels != (1 if colours == "grey" else 3):
            raise BringError(f"input {name} has {channels} channels; colours {colours or 'rgb'} does not fit")
        shape = [
            sizes[edge] if isinstance(sizes[edge], int) else (self.crop or (None, None))[i]
            for i, edge in enumerate(edges)
        ]
        if None in shape or self.crop not in (None, tuple(shape)):
            raise BringError(f"input {name} has the sizes {list(sizes)}; crop must name its height and width")
        pixels = self._pixels(feed, layout, colours, channels)
        picture = Picture(**{field: getattr(self, field) for field in Picture.__struct_fields__})
        try:
            spec = msgspec.structs.replace(
                feed.specs[0],
                datatype="UINT8",
                shape=(-1, *shape, *([3] if channels == 3 else [])),
                range=(0, 255),
                max_shape=(),
                axes=(),
                picture=picture,
            )
        except ValueError as error:
            raise BringError(str(error)) from error
        return replace(feed, specs=(spec,), pixels=pixels)

    def _pixels(self, feed: Feed, layout: Layout, colours: str, channels: int) -> Pixels:
        name, datatype = feed.specs[0].name, feed.port.datatype
        floats = datatype in ("FP16", "FP32", "FP64", "BF16")
        scale = self.scale or (255.0 if floats else 1.0)
        mean, std = ((each,) if isinstance(each, float) else each for each in (self.mean, self.std))
        pixels = Pixels(layout, scale, mean, std, colours == "bgr", floats and self.scale is None)
        if datatype in ("BOOL", "BYTES", "INT8") or (pixels.has_arithmetic and not floats):
            raise BringError(f"input {name} is {datatype}: scale, mean and std need a graph of floats, pixels 0 to 255")
        if not all(len(each) in (1, channels) for each in (mean, std)) or 0 in (*std, self.scale):
            raise BringError(f"input {name}: mean and std need {channels} numbers or one, scale and std none that is 0")
        return pixels


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Changes of an input or output; what is absent stays as drafted.

    Attributes:
        datatype: of an input before the hooks, with its ``shape``; else the graph says both.
        background: of a picture; ``picture`` makes an input one.
    """

    description: str | None = None
    unit: str | None = None
    range: tuple[float, float] | None = None
    categories: tuple[str, ...] | None = None
    max_shape: tuple[int, ...] | None = None
    pad: float | None = None
    datatype: str | None = None
    shape: tuple[int, ...] | None = None
    nullable: bool | None = None
    default: float | str | None = None
    timestamp: bool | None = None
    background: str | None = None
    picture: PicturePart | None = None

    def declared(self, name: str) -> TensorSpec | None:
        """Return an input that hooks take; None where the graph says its datatype.

        Raises:
            BringError: the contract does not allow it.
        """
        if self.datatype is None:
            return None
        try:
            return TensorSpec(name, self.datatype, self.shape or (-1,))
        except ValueError as error:
            raise BringError(str(error)) from error

    def apply(self, spec: TensorSpec) -> TensorSpec:
        """Return the changed tensor.

        Raises:
            BringError: the contract does not allow it.
        """
        changes = {name: value for name, value in msgspec.structs.asdict(self).items() if value is not None}
        changes.pop("picture", None)
        if self.nullable is False:
            changes["default"] = None
        try:
            return msgspec.structs.replace(spec, **changes)
        except ValueError as error:
            raise BringError(str(error)) from error


class Overrides(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """The content of the file.

    Attributes:
        columns: names for the columns of the only input, a matrix.
        targets: names for the numbers of a regression that has several; the figures of the first have plain names.
        inputs: changes by the input's name; ``outputs`` likewise.
    """

    task: Task | None = None
    description: str = ""
    labels: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    targets: tuple[str, ...] = ()
    inputs: dict[str, Part] = {}
    outputs: dict[str, Part] = {}

    @property
    def declared(self) -> tuple[TensorSpec, ...]:
        """The inputs that hooks take: every one of the file, or none.

        Raises:
            BringError: some lack a datatype, or have a shape without.
        """
        specs = [part.declared(name) for name, part in self.inputs.items()]
        lacking = [name for (name, part), spec in zip(self.inputs.items(), specs, strict=True) if spec is None]
        if lacking and (any(specs) or any(part.shape for part in self.inputs.values())):
            raise BringError(f"input {lacking[0]} needs a datatype, as the others before the hooks have")
        return tuple(spec for spec in specs if spec)

    def feeds_of(self, feeds: Sequence[Feed]) -> tuple[Feed, ...]:
        """Return the inputs with their changes.

        Raises:
            BringError: there is no such input, or it cannot be so.
        """
        names = [spec.name for feed in feeds for spec in feed.specs]
        _check(self.inputs, names, "input")
        if len(names) > 1 and any(part.picture for part in self.inputs.values()):
            raise BringError(f"a picture must be the only input; there are {', '.join(names)}")
        return tuple(self._changed(feed) for feed in feeds)

    def _changed(self, feed: Feed) -> Feed:
        parts = [self.inputs.get(spec.name, Part()) for spec in feed.specs]
        feed = parts[0].picture.declared(feed) if parts[0].picture else feed
        specs = [part.apply(spec) for part, spec in zip(parts, feed.specs, strict=True)]
        return replace(feed, specs=tuple(specs))

    @property
    def nullable(self) -> set[str]:
        """Inputs of which it says whether they may be missing, as parts of a draft."""
        return {f"input {name}" for name, part in self.inputs.items() if part.nullable is not None}

    def outputs_of(self, outputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        """Return the outputs with their changes; errors as of ``feeds_of``."""
        _check(self.outputs, [spec.name for spec in outputs], "output")
        return tuple(self.outputs.get(spec.name, Part()).apply(spec) for spec in outputs)


def read(path: Path) -> Overrides:
    """Read the file.

    Raises:
        BringError: it cannot be read, or has a part that no contract has; names the part.
    """
    try:
        content = yaml.safe_load(path.read_bytes())
        return msgspec.convert(content or {}, Overrides, strict=False)
    except OSError as error:
        raise BringError(f"{path} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, msgspec.ValidationError, ValueError, RecursionError) as error:
        raise BringError(f"{path}: {error}") from error


def written(task: Task, description: str, labels: Sequence[str], parts: dict[str, dict[str, TensorSpec]]) -> str:
    """Return a draft as the file's text.

    Args:
        parts: tensors by name, under ``inputs`` and ``outputs``.
    """
    document: dict[str, Any] = {"task": task, "description": description}
    if labels:
        document["labels"] = list(labels)
    for kind, specs in parts.items():
        document[kind] = {name: _part(spec) for name, spec in specs.items()}
    return yaml.safe_dump(document, sort_keys=False, allow_unicode=True, width=100)


def _part(spec: TensorSpec) -> dict[str, Any]:
    part: dict[str, Any] = {"description": spec.description, "unit": spec.unit}
    if spec.range:
        part["range"] = list(spec.range)
    if spec.categories:
        part["categories"] = list(spec.categories)
    if spec.max_shape:
        part["max_shape"] = list(spec.max_shape)
    if spec.pad is not None:
        part["pad"] = spec.pad
    if spec.nullable:
        part["nullable"] = True
    if spec.default is not None:
        part["default"] = spec.default
    if spec.timestamp:
        part["timestamp"] = True
    if spec.background != "black":
        part["background"] = spec.background
    if spec.picture:
        part["picture"] = msgspec.to_builtins(spec.picture)
    return part


def _check(parts: dict[str, Part], names: Sequence[str], what: str) -> None:
    if unknown := sorted(parts.keys() - set(names)):
        raise BringError(f"there is no {what} {unknown[0]!r}; there are {', '.join(names)}")


def _layout(sizes: Sequence[int | str | None]) -> Layout | None:
    """Return the layout of pictures that the sizes of an input tell; None where they do not."""
    if len(sizes) == 3:
        return "nhw"
    first, last = (len(sizes) == 4 and sizes[at] in (1, 3) for at in (1, 3))
    return "nchw" if first and not last else "nhwc" if last and not first else None
