"""The NumPy format, ``application/x-npy`` (NumPy enhancement proposal 1), without pickles.

A model with one input takes an array ``(n, …)``; one with several takes a one-dimensional structured array whose fields
are the features.
"""

import io
import math
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy_format

from handlers.contract import Array, ModelContract, TensorSpec
from handlers.features import all_missing
from handlers.formats.tensors import check_axes, fit_shape, to_tensor
from handlers.message import InputError


def decode(contract: ModelContract, body: bytes, max_rows: int) -> tuple[dict[str, Array], int]:
    """Decode the rows of an array into graph tensors, and count them.

    Raises:
        InputError: not of the format, or not of the contract.
    """
    array = _array(body)
    if array.ndim and len(array) > max_rows:
        raise InputError("too_many_rows", f"{len(array)} rows", expected=f"at most {max_rows} rows")
    if len(contract.inputs) == 1 and array.dtype.names is None:
        return {contract.inputs[0].name: _tensor(contract.inputs[0], array, "$")}, len(array)
    names = [spec.name for spec in contract.inputs]
    sent = set(array.dtype.names or ())
    if not {spec.name for spec in contract.inputs if not spec.nullable} <= sent <= set(names) or not sent:
        fields = f"a structured array with the fields {', '.join(names)}"
        raise InputError("wrong_datatype", f"dtype {array.dtype}", expected=fields)
    tensors = {
        spec.name: _tensor(spec, array[spec.name], f"$.{spec.name}")
        if spec.name in sent
        else all_missing(spec, len(array))
        for spec in contract.inputs
    }
    check_axes(contract.inputs, tensors, "$")
    return tensors, len(array)


def encode(array: Array) -> bytes:
    """Write one array in the format; strings as Unicode of a fixed width."""
    buffer = io.BytesIO()
    array = array.astype(np.str_) if array.dtype == object else array
    npy_format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _array(body: bytes) -> Array:
    stream = io.BytesIO(body)
    try:
        shape, fortran, dtype = _read_header(stream)
        data = body[stream.tell() :]
        if dtype.hasobject or min(shape, default=0) < 0 or len(data) != math.prod(shape) * dtype.itemsize:
            fault = "pickled objects" if dtype.hasobject else f"{len(data)} bytes for shape {list(shape)} of {dtype}"
            raise InputError("invalid_npy", fault, expected="plain values, as many as the header says")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except InputError:
        raise
    except Exception:  # NumPy evaluates the header as Python literals: any error there means a bad header
        fault = "the header" if body[: len(npy_format.MAGIC_PREFIX)] == npy_format.MAGIC_PREFIX else "the beginning"
        message = f"not an npy file: {fault} is none of the format ({len(body)} bytes)"
        raise InputError("invalid_npy", message, expected="what numpy.save writes") from None


def _read_header(stream: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    """Return shape, whether the first index varies fastest, and datatype; versions 1.0, 2.0 and 3.0 of the format.

    Raises:
        InputError: another version.
    """
    version = npy_format.read_magic(stream)
    if version not in ((1, 0), (2, 0), (3, 0)):
        fault = "version {}.{} of the format".format(*version)
        raise InputError("invalid_npy", fault, expected="version 1.0, 2.0 or 3.0")
    reader = npy_format.read_array_header_1_0 if version == (1, 0) else npy_format.read_array_header_2_0
    shape, fortran, dtype = reader(stream)
    if version == (3, 0) and dtype.names:  # as 2.0, but with names in UTF-8, here read as Latin-1
        dtype.names = tuple(name.encode("latin-1").decode() for name in dtype.names)
    return shape, fortran, dtype


def _tensor(spec: TensorSpec, array: Array, path: str) -> Array:
    array = array.reshape(fit_shape(spec, array.shape, path))
    kind, target = array.dtype.kind, np.dtype(spec.dtype).kind
    if (spec.datatype == "BYTES" or spec.timestamp) and kind in "SU":
        return to_tensor(spec, _strings(array, path), path)
    if kind == target == "b" and (array.view(np.uint8) > 1).any():
        raise InputError("invalid_npy", f"{spec.name} holds a byte that is neither 0 nor 1", path, "0 or 1")
    if kind == target or (kind in "iuf" and target in "iuf"):
        return np.ascontiguousarray(to_tensor(spec, array, path))
    raise InputError("wrong_datatype", f"{spec.name} has dtype {array.dtype}", path, spec.datatype)


def _strings(array: Array, path: str) -> Array:
    try:
        strings = array.astype(np.str_).astype(np.object_)
        # Half a surrogate pair is a NumPy character, but no text; one beyond Unicode is encoded, but not decoded, or
        # decoded as another.
        text = "".join(strings.ravel())
        if text.encode().decode() != text:
            raise ValueError("a character is beyond Unicode")
    except (ValueError, SystemError):  # the latter is NumPy's for a code point beyond Unicode
        expected = "ASCII, or a Unicode dtype with valid characters"
        raise InputError("invalid_utf8", "a string is not text", path, expected) from None
    return strings
