"""The NumPy format, ``application/x-npy`` (NumPy enhancement proposal 1), without pickles.

A model with one input takes an array ``(n, …)``; one with several takes a one-dimensional structured array whose fields
are the features.
"""

import io
import math
from typing import Any

import numpy as np
from numpy.lib import format as npy_format

from handlers.contract import ModelContract, TensorSpec
from handlers.message import InputError
from handlers.tensors import Array, check_shape, to_tensor


def decode(contract: ModelContract, body: bytes, max_rows: int) -> tuple[dict[str, Array], int]:
    """Decode the rows of one array into graph tensors, and count them.

    Raises:
        InputError: not the format, or not of the contract.
    """
    array = _read(body)
    if array.ndim and len(array) > max_rows:
        raise InputError("too_many_rows", f"{len(array)} rows", expected=f"at most {max_rows} rows")
    if len(contract.inputs) == 1 and array.dtype.names is None:
        return {contract.inputs[0].name: _tensor(contract.inputs[0], array, "$")}, len(array)
    names = [spec.name for spec in contract.inputs]
    if array.dtype.names is None or set(array.dtype.names) != set(names):
        found = f"dtype {array.dtype}"
        raise InputError("wrong_datatype", found, expected=f"a structured array with the fields {', '.join(names)}")
    return {spec.name: _tensor(spec, array[spec.name], f"$.{spec.name}") for spec in contract.inputs}, len(array)


def encode(array: Array) -> bytes:
    """Write one array in the format."""
    buffer = io.BytesIO()
    npy_format.write_array(buffer, array, allow_pickle=False)
    return buffer.getvalue()


def _read(body: bytes) -> Array:
    stream = io.BytesIO(body)
    try:
        version = npy_format.read_magic(stream)
        read: Any = {(1, 0): npy_format.read_array_header_1_0, (2, 0): npy_format.read_array_header_2_0}[version]
        shape, fortran, dtype = read(stream)
        data = body[stream.tell() :]
        if dtype.hasobject or min(shape, default=0) < 0 or len(data) != math.prod(shape) * dtype.itemsize:
            found = "pickled objects" if dtype.hasobject else f"{len(data)} bytes for shape {list(shape)} of {dtype}"
            raise InputError("invalid_npy", found, expected="plain values, as many as the header says")
        return np.frombuffer(data, dtype).reshape(shape, order="F" if fortran else "C")
    except InputError:
        raise
    except Exception as error:  # NumPy evaluates the header as Python literals: any error there means a bad header
        raise InputError("invalid_npy", f"not an npy file: {error!r}", expected="what numpy.save writes") from None


def _tensor(spec: TensorSpec, array: Array, path: str) -> Array:
    check_shape(spec, array.shape, path)
    kind, wanted = array.dtype.kind, np.dtype(spec.dtype).kind
    if spec.datatype == "BYTES" and kind in "SU":
        return to_tensor(spec, _strings(array, path), path)
    if kind == wanted == "b" and (array.view(np.uint8) > 1).any():
        raise InputError("invalid_npy", f"{spec.name} holds a byte that is neither 0 nor 1", path, "0 or 1")
    if kind == wanted or (kind in "iu" and wanted in "iuf"):
        return np.ascontiguousarray(to_tensor(spec, array, path))
    raise InputError("wrong_datatype", f"{spec.name} has dtype {array.dtype}", path, spec.datatype)


def _strings(array: Array, path: str) -> Array:
    try:
        strings = array.astype(np.str_).astype(np.object_)
        # Half a surrogate pair is a NumPy character, but no text; one beyond Unicode is encoded, but not decoded.
        "".join(strings.ravel()).encode().decode()
    except (ValueError, SystemError):  # the latter is NumPy's for a code point beyond Unicode
        expected = "ASCII, or a Unicode dtype with valid characters"
        raise InputError("invalid_utf8", "a string is not text", path, expected) from None
    return strings
