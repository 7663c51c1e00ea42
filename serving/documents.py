"""Files of JSON that are whole at every moment, and read back before they replace the former ones.

JSON knows neither NaN nor infinity, and some encoders write them nevertheless; UTF-8 has no half of a surrogate pair.
A file that no program could read again must not be written.
"""

import json
import logging
import math
import os
import secrets
from pathlib import Path
from typing import Any, TypeVar

import msgspec
import numpy as np

logger = logging.getLogger(__name__)
T = TypeVar("T")
PRIVATE = 0o600  # the mode of a new file that others need not read


class DocumentError(ValueError):
    """A value cannot be written so that it can be read again, or a file cannot be read; the message says where."""


def finite(value: Any, place: str = "$") -> Any:
    """Return a value as JSON can hold it: ``None`` for NaN and infinity, lists for tuples and sets, plain numbers.

    Args:
        value: made of dictionaries, lists, texts, numbers, structs and NumPy's scalars.
        place: path of the value, for error messages.

    Raises:
        DocumentError: a text is no Unicode, or a value is of another kind; names the place.
    """
    if isinstance(value, dict):
        return {finite(_key(key, place), place): finite(inner, f"{place}.{key}") for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [finite(inner, f"{place}[{i}]") for i, inner in enumerate(value)]
    if isinstance(value, np.generic):
        return finite(value.item(), place)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, str):
        if not _is_unicode(value):
            raise DocumentError(f"{place} is {value!r}, which has half of a surrogate pair: no file can hold it")
        return value
    if value is None or isinstance(value, bool | int):
        return value
    try:
        return finite(msgspec.to_builtins(value, enc_hook=_plain), place)
    except TypeError as error:
        for name in getattr(value, "__struct_fields__", ()):
            finite(getattr(value, name), f"{place}.{name}")  # names the field at fault
        raise DocumentError(f"{place} is a {type(value).__name__}, which JSON cannot hold") from error


def to_json(value: T, kind: Any = Any) -> bytes:
    """Encode a value, indented for reading, and read it back.

    Args:
        value: NaN and infinity in it become null.
        kind: the type by which it is read.

    Raises:
        DocumentError: it cannot be read by this type, or is not the same afterwards; says what is wrong.
    """
    try:
        plain = finite(value)
        content = msgspec.json.format(msgspec.json.encode(plain), indent=1)
        again = finite(msgspec.json.decode(content, type=kind))
    except RecursionError as error:
        raise DocumentError("it is nested too deeply to be read again") from error
    except msgspec.MsgspecError as error:
        raise DocumentError(f"it could not be read again: {error}") from error
    if again != plain:
        raise DocumentError(f"it would not be the same when it is read again: {_difference(plain, again)}")
    return content


def write_json(path: Path, value: Any, kind: Any = Any, private: bool = True) -> None:
    """Replace a file by a value's JSON, once that was read back; the arguments are those of ``to_json``.

    Raises:
        DocumentError: it could not be read again; the file is as it was. Names the file.
        OSError: it cannot be written; the file is as it was.
    """
    try:
        content = to_json(value, kind)
    except DocumentError as error:
        raise DocumentError(f"{path} is not written: {error}") from error
    write_atomically(path, content + b"\n", private)


def read_json(path: Path, kind: Any = Any) -> Any:
    """Read a file of JSON by a type.

    NaN and infinity, which former versions wrote, count as null.

    Raises:
        FileNotFoundError: there is no such file.
        DocumentError: it is damaged; names it.
    """
    content = path.read_bytes()
    try:
        return from_json(content, kind)
    except ValueError as error:
        raise DocumentError(f"{path} is damaged: {error}") from error


def read_kept(path: Path, kind: Any = Any) -> Any:
    """Read a saved result; None where there is none, or, with a warning, where it cannot be read."""
    try:
        return read_json(path, kind)
    except FileNotFoundError:
        return None
    except (DocumentError, OSError) as error:
        logger.warning("%s; it is made anew", error)
        return None


def from_json(content: bytes, kind: Any = Any) -> Any:
    """Decode JSON by a type, as ``read_json`` does.

    Raises:
        ValueError: it is damaged.
    """
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        if not any(word in content for word in (b"NaN", b"Infinity")):
            raise
        try:
            return msgspec.convert(json.loads(content, parse_constant=lambda word: None), kind)
        except (ValueError, RecursionError) as second:
            raise second if isinstance(second, msgspec.MsgspecError) else error from second


def write_atomically(path: Path, content: bytes, private: bool = False) -> None:
    """Replace a file so that a crash at any moment, or a full disk, leaves the old one or the new one whole.

    Its mode stays, and its owner where this process may set it. A link stays; the file that it points to is replaced.

    Args:
        private: whether a new file can be read by its owner alone.
    """
    path = Path(os.path.realpath(path))
    temporary = path.with_name(f".{path.name[:100]}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, PRIVATE if private else 0o666)
        with open(descriptor, "wb") as file:
            _keep_mode(path, descriptor)
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _keep_mode(path: Path, descriptor: int) -> None:
    try:
        former = path.stat()
    except FileNotFoundError:
        return
    if os.geteuid() == 0:  # a root that changes a service's file leaves it to the service
        os.fchown(descriptor, former.st_uid, former.st_gid)
    os.fchmod(descriptor, former.st_mode & 0o777)


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(type(value).__name__)


def _key(key: Any, place: str) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, int) and not isinstance(key, bool):
        return str(key)
    raise DocumentError(f"{place} has the key {key!r}, which is no text")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _difference(plain: Any, again: Any, place: str = "$") -> str:
    """Describe the first difference of two values that JSON can hold."""
    if isinstance(plain, dict) and isinstance(again, dict):
        for key in [*plain, *again]:
            if key not in plain or key not in again:
                return f"{place}.{key} is {'lost' if key in plain else 'added'}"
            if plain[key] != again[key]:
                return _difference(plain[key], again[key], f"{place}.{key}")
    if isinstance(plain, list) and isinstance(again, list) and len(plain) == len(again):
        for i, (before, after) in enumerate(zip(plain, again, strict=True)):
            if before != after:
                return _difference(before, after, f"{place}[{i}]")
    return f"{place} becomes {str(again)[:100]}"


def stamp(path: Path) -> object:
    """Return a value that changes when a file is written or replaced, comes or goes."""
    try:
        status = path.stat()
    except OSError as error:
        return error.errno
    return status.st_mtime_ns, status.st_size, status.st_ino
