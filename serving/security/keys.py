"""API keys of the direct host: names, and of each key nothing but its SHA-256.

A key is 32 random bytes, so that nobody can guess it from its hash: a slow hash, as passwords need, would add nothing.
The file is there from the first key on, and from then on a request needs a key. Revoking the last one opens nothing.
"""

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from filelock import FileLock

from serving import documents
from serving.settings import Settings

FILE = "keys.json"  # in the model store
PREFIX = "mar_"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
RESERVED = frozenset({"none", "unknown", "marloop"})  # values of the metric's label that are no names of users
_DAYS = re.compile(r"([1-9][0-9]{0,4})d")


class KeyFileError(Exception):
    """A key cannot be added, revoked or read; the message says why."""


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A key as the file has it.

    Attributes:
        sha256: hexadecimal.
        models: names of those that it is for; empty for all.
        expires: when it ends; None for never.
        rate: requests a second; 0 for any number.
    """

    sha256: str
    created: datetime
    models: tuple[str, ...] = ()
    expires: datetime | None = None
    rate: float = 0.0


class KeyFile:
    """The keys of a model store.

    Args:
        store: folder of the archives and the registry.
        path: of the file, where it lies elsewhere.
    """

    def __init__(self, store: Path, path: Path | None = None) -> None:
        self.path = path or store / FILE

    def read(self) -> dict[str, Key] | None:
        """Return the keys by name; None where no key was ever added.

        Raises:
            KeyFileError: the file is damaged or cannot be read.
        """
        try:
            keys: dict[str, Key] = documents.read_json(self.path, dict[str, Key])
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise KeyFileError(f"{error}; until it is mended or removed, no key lets anybody in") from error
        return keys

    def add(self, name: str, models: tuple[str, ...] = (), expires: datetime | None = None, rate: float = 0.0) -> str:
        """Make a key and return it: nothing can tell it again.

        Raises:
            KeyFileError: the name is taken or none, or the file is damaged or cannot be written.
        """
        if not _NAME.fullmatch(name) or name in RESERVED:
            taken = ", ".join(sorted(RESERVED))
            raise KeyFileError(f"{name!r} is no name: up to 64 letters, digits, _ . and -, and none of {taken}")
        key = PREFIX + secrets.token_urlsafe(32)
        with self._change() as keys:
            if name in keys:
                raise KeyFileError(f"there is a key {name} already: `keys revoke {name}` ends it")
            keys[name] = Key(digest(key.encode()).hex(), datetime.now(UTC), models, expires, rate)
        return key

    def revoke(self, name: str) -> int:
        """Remove a key, and return how many are left.

        Raises:
            KeyFileError: there is no such key, or the file is damaged or cannot be written.
        """
        with self._change() as keys:
            if keys.pop(name, None) is None:
                raise KeyFileError(f"there is no key {name}; there are: {', '.join(sorted(keys)) or 'none'}")
            return len(keys)

    @contextmanager
    def _change(self) -> Iterator[dict[str, Key]]:
        try:
            with FileLock(self.path.with_suffix(".lock")):
                keys = self.read() or {}
                yield keys
                documents.write_json(self.path, keys, dict[str, Key])
        except OSError as error:
            raise KeyFileError(f"{self.path} cannot be written: {error}") from error


def key_file(settings: Settings) -> KeyFile:
    """Return the file of API keys that the settings name."""
    return KeyFile(settings.model_store, settings.keys_file)


def digest(key: bytes) -> bytes:
    """Return the SHA-256 of a key."""
    return hashlib.sha256(key).digest()


def by_digest(keys: Mapping[str, Key]) -> dict[bytes, tuple[str, Key]]:
    """Return names and keys by their digests."""
    return {bytes.fromhex(key.sha256): (name, key) for name, key in keys.items()}


def find(keys: Mapping[bytes, tuple[str, Key]], sent: bytes) -> tuple[str, Key] | None:
    """Return the name and the key that was sent; None for an unknown or expired one.

    What is looked up is a hash, which no client can choose byte by byte: its time tells nothing about a key.
    """
    hashed = digest(sent)
    entry = keys.get(hashed)
    if entry is None or not hmac.compare_digest(hashed.hex(), entry[1].sha256):
        return None
    return entry if entry[1].expires is None or datetime.now(UTC) < entry[1].expires else None


def expiry(text: str, now: datetime) -> datetime:
    """Return when a key ends, of ``30d`` or an ISO date or time, in UTC where it names no zone.

    Raises:
        KeyFileError: it is neither, or has passed.
    """
    try:
        days = _DAYS.fullmatch(text)
        end = now + timedelta(days=int(days[1])) if days else datetime.fromisoformat(text)
        end = (end if end.tzinfo else end.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise KeyFileError(f"--expires {text} is neither days, such as 30d, nor a date, such as 2027-01-31") from error
    if end <= now:
        raise KeyFileError(f"--expires {text} has passed")
    return end
