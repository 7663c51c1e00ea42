"""The file that overrides parts of a drafted contract, in YAML."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import yaml

from handlers.contract import Task, TensorSpec
from training.bring.feeds import Feed
from training.bring.graph import BringError


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Changes of an input or output; what is absent stays as drafted.

    Attributes:
        datatype: of an input before the hooks, with its ``shape``; else the graph says both.
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
        targets: names for the numbers of a regression that has several; the first decides.
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
        return tuple(
            replace(feed, specs=tuple(self.inputs.get(spec.name, Part()).apply(spec) for spec in feed.specs))
            for feed in feeds
        )

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
    return part


def _check(parts: dict[str, Part], names: Sequence[str], what: str) -> None:
    if unknown := sorted(parts.keys() - set(names)):
        raise BringError(f"there is no {what} {unknown[0]!r}; there are {', '.join(names)}")
