"""Results of commands: written as JSON, COMMAND-MODEL.json, and read again for ``docs/practices.md``."""

from collections.abc import Mapping
from typing import Any, ClassVar, Self

import msgspec
from msgspec import UNSET, UnsetType


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """A row with figures whose names only the model knows; in JSON they stand beside the fields of the row.

    Attributes:
        figures: values by metric or by hyperparameter; the key set is open.
    """

    figures: dict[str, Any] = {}

    def to_document(self) -> dict[str, Any]:
        """Return the row as an object of JSON."""
        document = msgspec.to_builtins(self)
        return document | document.pop("figures")  # type: ignore[no-any-return]

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Make a row of an object of JSON; keys that are no fields are figures."""
        fields = {name: value for name, value in document.items() if name in cls.__struct_fields__}
        figures = {name: value for name, value in document.items() if name not in fields}
        return msgspec.convert({**fields, "figures": figures}, cls)


class Result(msgspec.Struct, frozen=True, kw_only=True, tag_field="command"):
    """The result of a command about a model; the tag of the class is the command.

    Attributes:
        heading: title of the section of such results.
        tables: class of the rows of each attribute that holds rows with figures.
        seconds: duration of the command.
        run: the command line, if it is not of ``training``.
    """

    heading: ClassVar[str]
    tables: ClassVar[Mapping[str, type[Row]]] = {}

    model: str
    seconds: float
    machine: str
    run: str | UnsetType = UNSET

    @property
    def command(self) -> str:
        """Command of the result."""
        return str(self.__struct_config__.tag)

    @property
    def command_line(self) -> str:
        """Command line of the result."""
        return f"marloop {self.command} {self.model}" if self.run is UNSET else self.run

    def markdown(self) -> str:
        """Return the section's text and tables."""
        raise NotImplementedError

    def to_document(self) -> dict[str, Any]:
        """Return the result as an object of JSON, an open one where its rows have figures."""
        document: dict[str, Any] = msgspec.to_builtins(self)
        for name in self.tables.keys() & document.keys():
            document[name] = [row.to_document() for row in getattr(self, name)]
        return document

    @classmethod
    def from_document(cls, document: Mapping[str, Any]) -> Self:
        """Make a result of an object of JSON, also of one that a former version wrote.

        Raises:
            msgspec.ValidationError: the object is no result of this command.
        """
        rows = {
            name: [msgspec.structs.asdict(kind.from_document(row)) for row in document[name]]
            for name, kind in cls.tables.items()
            if name in document
        }
        return msgspec.convert({**document, **rows}, cls)
