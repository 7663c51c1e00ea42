"""Settings: structs whose fields have a variable, a default, bounds and a description, and their reader."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, ClassVar, Self

import msgspec
from msgspec import Meta, inspect

CAPTURE_URL = "CAPTURE_URL"  # no prefix, since any sink may have it
MOST = 999_999_999  # rows or days that databases and clocks take
Share = Annotated[float, Meta(ge=0, le=1, title="a share")]
SECRET = {"writeOnly": True}  # JSON Schema's word for a field that can be read from a file, too
MAY_BE_EMPTY = {"minLength": 0}  # likewise for a text whose empty value differs from none
_FILE = "_FILE"  # behind a variable's name
_SWITCH = {"on": True, "off": False}


def variables(prefix: str = "") -> Callable[[str], str]:
    """Return the rule from the name of a struct's field to its variable: ``MARLOOP_``, the prefix, the name."""
    return lambda name: f"MARLOOP_{prefix}{name.upper()}"


def says(description: str, **bounds: Any) -> Meta:
    """Return a field's ``Meta``: a description, and msgspec's bounds, title and examples."""
    return Meta(description=description, **bounds)


@dataclass(frozen=True)
class Setting:
    """A field, for the documentation and for options of commands.

    Attributes:
        accepted: words of errors for a valid value.
        lowest: least value; None where there is none.
        example: a value, where the default is empty.
    """

    variable: str
    default: Any
    accepted: str
    lowest: float | None
    description: str
    example: str


class EnvironmentSettings(msgspec.Struct, frozen=True, rename=variables()):
    """A part's settings. ``Meta`` of a field has its bounds, its description, and a title where "a number" is vague."""

    root: ClassVar[Path] = Path()  # where a relative path starts

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the variables of the fields; an empty one is unset, unless it may be empty. A secret may be in a file.

        Raises:
            ValueError: a value is invalid; names the variable, the value and what it must be.
        """
        values = {}
        for field in msgspec.structs.fields(cls):
            kind, extra = _type_of(field)
            text = _secret(environ, field.encode_name) if _is_secret(extra) else environ.get(field.encode_name)
            if text or (text is not None and MAY_BE_EMPTY.items() <= extra.items()):
                try:
                    value = _parse(kind, text)
                    values[field.name] = msgspec.convert(value, field.type, dec_hook=lambda _, path: cls.root / path)
                except ValueError:
                    raise ValueError(f"{field.encode_name} is {text!r}; it must be {_accepted(kind, extra)}") from None
        return cls(**values)

    def to_environment(self) -> dict[str, str]:
        """Return the variables from which ``from_environment`` reads the same settings."""
        return {field.encode_name: as_text(getattr(self, field.name)) for field in msgspec.structs.fields(self)}

    @classmethod
    def settings(cls) -> dict[str, Setting]:
        """Return the fields by name."""
        settings = {}
        for field in msgspec.structs.fields(cls):
            kind, extra = _type_of(field)
            lowest, examples = getattr(kind, "ge", None), extra.get("examples", [""])
            accepted, description = _accepted(kind, extra), extra.get("description", "")
            if _is_secret(extra):
                description += f" {field.encode_name}{_FILE} names a file that holds it."
            settings[field.name] = Setting(
                field.encode_name, field.default, accepted, lowest, description, str(examples[0])
            )
        return settings


class Credentials(EnvironmentSettings, frozen=True):
    """Tokens for calls that change something."""

    token: Annotated[
        str,
        says(
            "What calls that change something must send to the monitor as `Authorization: Bearer …`, the workers' "
            "events included; unset: it answers such calls from this machine alone. `openssl rand -hex 32` makes a "
            "good one. Workers have one that is made from it and may send events alone, and no other secret of the "
            "environment.",
            extra_json_schema=SECRET,
        ),
    ] = ""
    events_token: Annotated[
        str,
        says(
            "What workers send events with; unset: made from MARLOOP_TOKEN. Where TorchServe runs apart, as in Docker, "
            "it needs this one alone.",
            extra_json_schema=SECRET,
        ),
    ] = ""


class WorkerSettings(EnvironmentSettings, frozen=True):
    """Reports of a worker."""

    log_sample: Annotated[
        Share, says("Share of the successful requests that workers log, 0 to 1; a failed one is always logged.")
    ] = 0
    capture_url: Annotated[
        str,
        says(
            "Where workers send the predictions that they capture; unset: to the monitor that `make up` starts; off: "
            "nowhere."
        ),
    ] = msgspec.field(default="", name=CAPTURE_URL)

    @property
    def captures(self) -> bool:
        """Whether there is a sink for predictions."""
        return self.capture_url not in ("", "off")


class CaptureSettings(EnvironmentSettings, frozen=True, rename=variables("CAPTURE_")):
    """The share of predictions that a worker captures."""

    sample: Annotated[Share, says("Share of the rows that are captured, 0 to 1.")] = 1
    rows_per_second: Annotated[
        float, says("How many rows a second each worker captures at most.", gt=0, lt=1e308, title="a positive number")
    ] = 100
    conversations: Annotated[
        bool,
        says(
            "on: workers of language models capture the conversations whose client says `store: true`. off: none of "
            "them."
        ),
    ] = False
    redaction: Annotated[
        str,
        says(
            "What is replaced in conversations before they leave a worker, and in better answers that clients send. "
            "default: e-mail addresses, numbers of cards and phone numbers. Else the absolute path of a file of "
            "Python with a function `redact(text)`."
        ),
    ] = "default"


def as_text(value: object) -> str:
    """Return a variable's text for a value."""
    if isinstance(value, bool):
        return "on" if value else "off"
    return "" if value is None else str(value)


def _is_secret(extra: Mapping[str, Any]) -> bool:
    return SECRET.items() <= extra.items()


def _secret(environ: Mapping[str, str], variable: str) -> str:
    """Return a secret from its variable, or from the file that another one names; no error has it."""
    named, value = environ.get(variable + _FILE), environ.get(variable, "")
    if not named:
        return value
    if value:
        raise ValueError(f"{variable} and {variable}{_FILE} are both set; one of them must be")
    try:
        value = Path(named).read_text("utf-8").strip()
    except OSError as error:
        raise ValueError(f"{variable}{_FILE} is {named!r}, which cannot be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{variable}{_FILE} is {named!r}, which is no text") from None
    if not value:
        raise ValueError(f"{variable}{_FILE} is {named!r}, which is empty")
    return value


def _type_of(field: msgspec.structs.FieldInfo) -> tuple[inspect.Type, dict[str, Any]]:
    """Return the type that is not None, with its bounds, and the rest of ``Meta``."""
    info = inspect.type_info(field.type)
    kind, extra = (info.type, info.extra_json_schema) if isinstance(info, inspect.Metadata) else (info, None)
    if isinstance(kind, inspect.UnionType):
        kind = next(option for option in kind.types if not isinstance(option, inspect.NoneType))
    return kind, extra or {}


def _parse(kind: inspect.Type, text: str) -> object:
    """Return a text's value, before its bounds are checked."""
    if isinstance(kind, inspect.BoolType):
        return _SWITCH.get(text)
    if isinstance(kind, inspect.IntType):
        return int(text) if text.isdecimal() else text
    return float(text) if isinstance(kind, inspect.FloatType) else text


def _accepted(kind: inspect.Type, extra: Mapping[str, Any]) -> str:
    """Return words for a valid value: the title or the kind, and the bounds."""
    if isinstance(kind, inspect.BoolType):
        return "on or off"
    if isinstance(kind, inspect.LiteralType):
        return " or ".join(map(str, kind.values))
    if not isinstance(kind, inspect.IntType | inspect.FloatType):
        return str(extra.get("title", "text" if isinstance(kind, inspect.StrType) else "path"))
    noun = extra.get("title", "a whole number" if isinstance(kind, inspect.IntType) else "a number")
    lowest = f" from {kind.ge:.10g}" if kind.ge is not None else ""
    return f"{noun}{lowest} to {kind.le:.10g}" if kind.le is not None else f"{noun}{lowest}"
