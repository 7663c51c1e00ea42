"""Registers archives that come without a registry, as a cluster hands them to a container.

They stay where they are: the model store gets links to them. The newest version of each model becomes its champion.
An archive is code, so whoever names a source vouches for what lies there.
"""

import os
import re
import secrets
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from serving.archive import CONTRACT, ArchiveError
from serving.registry import Note, Registry, Version, make_champion
from serving.store.faults import reason, shown
from serving.store.fetching import fetch
from serving.store.restore import order_of, read_version
from serving.store.shared.archives import fetch_signature, signature_of

CACHE = "fetched"  # folder of the store, for the files of URLs
BY = "serving register"  # of the history
_FRAGMENT = "#sha256="
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*", re.ASCII)
Archives = dict[tuple[str, str], tuple[Path, Version]]  # file and entry, by name and number


def register(sources: Sequence[str], registry: Registry) -> dict[str, str]:
    """Register the archives of these sources, and make the newest of each model's versions among them its champion.

    Registering again what is registered changes nothing, so that a container may do it at each start.

    Args:
        sources: folders, where ``.mar`` files lie at any depth; such files; or URLs and paths with ``#sha256=`` and 64
            digits behind them, which are fetched.

    Returns:
        The champions' numbers by model.

    Raises:
        ArchiveError: a source holds no archive or a damaged one, two differ under one name and number, or the
            registry has another one; nothing is registered then.
    """
    trust = registry.files.trust
    archives = _read_archives(sources, registry.store / CACHE, signed=trust.public_key is not None)
    for path, _ in archives.values():
        trust.check(path)
    champions: dict[str, str] = {}
    for name, number in sorted(archives, key=lambda key: order_of(key[1])):
        champions[name] = number  # the last one is the newest
    with registry.change(Note(BY, f"of {', '.join(map(shown, sources))}")) as models:
        for (name, number), (path, version) in archives.items():
            registered = models.setdefault(name, {}).setdefault(number, version)
            if registered.sha256 != version.sha256:
                raise ArchiveError(
                    f"{name} {number} is registered in {registry.store} with SHA-256 {registered.sha256}, and {path} "
                    f"has {version.sha256}: give another content another version"
                )
            _link(path, registry.store / registered.archive)
            if signature_of(path).is_file():
                _link(signature_of(path), signature_of(registry.store / registered.archive))
        for name, number in champions.items():
            make_champion(models, name, number)
    return dict(sorted(champions.items()))


def _read_archives(sources: Iterable[str], cache: Path, signed: bool) -> Archives:
    """Read the archives of all sources.

    Raises:
        ArchiveError: see ``register``.
    """
    archives: Archives = {}
    for path in (path for source in sources for path in _files(source, cache, signed)):
        name, number, version = _read_version(path)
        other, entry = archives.setdefault((name, number), (path, version))
        if entry.sha256 != version.sha256:
            raise ArchiveError(f"{other} and {path} both hold {name} {number}, and differ: leave one out")
    return archives


def _read_version(path: Path) -> tuple[str, str, Version]:
    """Return an archive's model, number and entry.

    Raises:
        ArchiveError: it is damaged, made elsewhere, or has a name that cannot be one of a file.
    """
    try:
        name, number, version = read_version(path, "retired")
    except ArchiveError as error:
        if CONTRACT not in str(error):
            raise
        way = "one that was made elsewhere is brought in by `marloop import FILE --name NAME --trust`"
        raise ArchiveError(f"{error}; {way}") from error
    for text in (name, number):
        if not _NAME.fullmatch(text):
            raise ArchiveError(f"{path} has a model or version {text!r}: letters, digits, _ . and - are expected")
    version.archive = f"{name}-{number}.mar"
    return name, number, version


def _files(source: str, cache: Path, signed: bool) -> Iterator[Path]:
    """Yield the files of a source.

    Raises:
        ArchiveError: there is none, or a URL says no SHA-256.
    """
    url, marked, sha256 = source.partition(_FRAGMENT)
    path = Path(source)
    if marked:
        path = fetch(url, sha256, cache)
        if signed:
            _fetch_signature(url, path)
        yield path
    elif "://" in source:
        raise ArchiveError(f"{shown(source)} needs the SHA-256 of its file behind it: URL{_FRAGMENT}…")
    elif path.is_dir():
        files = [file for file in sorted(path.rglob("*.mar")) if file.is_file() and not _is_hidden(file, path)]
        if not files:
            raise ArchiveError(f"{path} holds no archive, which is a file that ends on .mar")
        yield from files
    elif path.is_file():
        yield path
    else:
        raise ArchiveError(f"{path} is neither a folder nor a file")


def _is_hidden(file: Path, folder: Path) -> bool:
    """Tell whether a part of a file's path begins with a dot, as folders behind a mounted volume do."""
    return any(part.startswith(".") for part in file.relative_to(folder).parts)


def _link(path: Path, target: Path) -> None:
    """Make a file of the store a link to another one, unless it is there."""
    if target.exists():
        return
    draft = target.with_name(f".{target.name}.{secrets.token_hex(4)}")
    draft.symlink_to(path.resolve())
    os.replace(draft, target)


def _fetch_signature(url: str, path: Path) -> None:
    """Put the signature of a fetched archive beside it.

    Raises:
        ArchiveError: it cannot be read or kept.
    """
    try:
        fetch_signature(url, path)
    except OSError as error:
        raise ArchiveError(f"the signature of {shown(url)} cannot be fetched: {reason(error)}") from error
