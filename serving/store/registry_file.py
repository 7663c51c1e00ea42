"""Content of the registry's file: the versions of every model, and which of them became champion when.

    {"models": {"flights": {"1.0": {"archive": "flights-1.0.mar", "sha256": "…", "state": "champion",
                                    "created": "…", "evaluation": {…}}}},
     "promotions": [{"model": "flights", "version": "1.0", "former": "", "time": "…", "by": "…", "why": "…"}],
     "removed": {"flights": ["0.9"]}}

An entry that cannot be read stays in the file as it is, and is not served; the others are.
"""

import contextlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple

import msgspec

from handlers.contract.model_card import Evaluation
from serving import documents

State = Literal["champion", "challenger", "refused", "retired"]
RESTORE = "marloop restore-registry"


class Version(msgspec.Struct, forbid_unknown_fields=True):
    """One version of a model.

    Attributes:
        archive: file name in the model store.
        state: at most one version of a model is champion, the one that is served; a challenger that was judged and
            not promoted is refused.
        created: ISO 8601.
        evaluation: as in the contract; unchecked, so that an entry of another release stays as it is.
    """

    archive: str
    sha256: str
    state: State
    created: str
    evaluation: dict[str, Any] = {}

    @property
    def measured(self) -> Evaluation:
        """The evaluation by its type.

        Raises:
            ValueError: it does not have this type.
        """
        return msgspec.convert(self.evaluation, Evaluation)


class ChampionVersion(NamedTuple):
    """The served version of a model, with its number."""

    number: str
    version: Version


class Promotion(msgspec.Struct, frozen=True):
    """A version that became champion.

    Attributes:
        former: the champion before; empty if there was none.
        time: ISO 8601, in UTC.
        by: the command that made it champion, such as ``serving promote``.
    """

    model: str
    version: str
    former: str
    time: str
    by: str
    why: str = ""


@dataclass
class Note:
    """Entry for the history of promotions: who changes champions, and why; without ``by`` nothing is noted."""

    by: str
    why: str = ""


class Document(msgspec.Struct, forbid_unknown_fields=True):
    """The whole file.

    Attributes:
        removed: numbers of removed versions by model, which are not given again: predictions and audit name them.
    """

    models: dict[str, dict[str, Version]] = {}
    promotions: list[Promotion] = []
    removed: dict[str, list[str]] = {}


@dataclass
class Content:
    """Content of a registry's file.

    Attributes:
        document: the readable part.
        damaged: the other entries as they stand in the file, by model and number.
        faults: reasons why they cannot be read, by model and number.
        repaired: whether the file has NaN, as former versions wrote it.
    """

    document: Document
    damaged: dict[str, dict[str, Any]]
    faults: dict[str, dict[str, str]]
    repaired: bool = False


def parse_content(content: bytes, place: str) -> Content:
    """Read the content of a registry's file, as far as it can be read.

    Args:
        place: path or URL of the file, for messages.

    Raises:
        ValueError: it is damaged as a whole.
    """
    try:
        return Content(msgspec.json.decode(content, type=Document), {}, {})
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass  # the faults are found entry by entry below
    whole = documents.from_json(content)
    repaired = any(word in content for word in (b"NaN", b"Infinity"))
    shape = msgspec.convert(whole, _Shape)
    models: dict[str, dict[str, Version]] = {}
    damaged: dict[str, dict[str, Any]] = {}
    faults: dict[str, dict[str, str]] = {}
    for name, versions in shape.models.items():
        entries = versions if isinstance(versions, dict) else {"": versions}
        for number, entry in entries.items():
            try:
                models.setdefault(name, {})[number] = msgspec.convert(entry, Version)
            except msgspec.ValidationError as error:
                damaged.setdefault(name, {})[number] = entry
                faults.setdefault(name, {})[number] = f"its entry in {place} is damaged: {error}: `{RESTORE}` mends it"
    return Content(Document(models, _readable(shape.promotions), shape.removed), damaged, faults, repaired)


class _Shape(msgspec.Struct, forbid_unknown_fields=True):
    """A registry with unchecked entries."""

    models: dict[str, Any] = {}
    promotions: list[Any] = []
    removed: dict[str, list[str]] = {}


def _readable(promotions: list[Any]) -> list[Promotion]:
    readable = []
    for entry in promotions:
        with contextlib.suppress(msgspec.ValidationError):  # a line of the history that is lost stops nothing
            readable.append(msgspec.convert(entry, Promotion))
    return readable


def champion_numbers(models: Mapping[str, Mapping[str, Version]]) -> dict[str, str]:
    """Return the champion's number of each model that has one."""
    champions = {name: champion_of(versions) for name, versions in models.items()}
    return {name: champion.number for name, champion in champions.items() if champion}


def promoted(before: Mapping[str, str], after: Mapping[str, str], note: Note) -> list[Promotion]:
    """Return the history's entries for the champions that changed."""
    now = datetime.now(UTC).isoformat()
    changed = {name: number for name, number in after.items() if before.get(name) != number}
    return [Promotion(name, number, before.get(name, ""), now, note.by, note.why) for name, number in changed.items()]


def champion_of(versions: Mapping[str, Version]) -> ChampionVersion | None:
    """Return the champion among the versions of a model, if there is one."""
    champions = (ChampionVersion(*item) for item in versions.items() if item[1].state == "champion")
    return next(champions, None)


def make_champion(models: dict[str, dict[str, Version]], name: str, number: str) -> None:
    """Make a version champion and retire the former one; only within ``Registry.change``.

    Raises:
        KeyError: no such model or version.
    """
    version = version_of(models, name, number)
    if former := champion_of(models[name]):
        former.version.state = "retired"
    version.state = "champion"


def version_of(models: dict[str, dict[str, Version]], name: str, number: str) -> Version:
    """Return a version from ``Registry.models``.

    Raises:
        KeyError: no such model or version; names the registered ones.
    """
    if number not in models.get(name, {}):
        raise KeyError(f"{name} {number} is not registered; there are {', '.join(models.get(name, {})) or 'none'}")
    return models[name][number]


def next_number(*versions: Iterable[str]) -> str:
    """Return the number of the next version: 1.0, 1.1, 1.2, …

    Args:
        versions: numbers, of damaged and of removed ones too; numbers of another form are ignored.
    """
    minors = (number.removeprefix("1.") for numbers in versions for number in numbers if number.startswith("1."))
    return f"1.{1 + max((int(minor) for minor in minors if minor.isdecimal()), default=-1)}"


def take_out(content: Content, name: str, number: str | None) -> dict[str, str]:
    """Take a version out of a registry's content, or with None all of a model; see ``Registry.remove``.

    Raises:
        KeyError: no such model or version, now or before.
        ValueError: the version is champion.
    """
    document = content.document
    versions, damaged = document.models.get(name, {}), content.damaged.get(name, {})
    known = list(dict.fromkeys([*document.removed.get(name, []), *damaged, *versions]))
    numbers = known if number is None else [number] if number in known else []
    if not numbers:
        there = ", ".join(versions or document.models) or "none"
        raise KeyError(f"{' '.join(filter(None, (name, number)))} is not registered; there are {there}")
    champion = champion_of(versions)
    if champion and champion.number == number:
        raise ValueError(f"{name} {number} is champion: promote another version, or remove the whole model")
    numbers.sort(key=lambda version: champion is not None and version == champion.number)
    document.removed[name] = list(dict.fromkeys([*document.removed.get(name, []), *filter(None, numbers)]))
    archives = {
        version: versions[version].archive if version in versions else f"{name}-{version}.mar" for version in numbers
    }
    for entries in (versions, damaged):
        for version in numbers:
            entries.pop(version, None)
    for models in (document.models, content.damaged):
        if name in models and not models[name]:
            del models[name]
    return archives
