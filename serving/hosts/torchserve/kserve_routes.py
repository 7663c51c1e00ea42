"""A header by which TorchServe names the route of KServe of a request.

Its methods for ``/v1/models/{model}:predict`` and ``/v2/models/{model}/infer`` are alike: both add the header
``explain: False``, so that a worker cannot distinguish them. A copy of their class, in which the value is the
protocol's name instead, goes before TorchServe's on Java's class path. Any other release stays unchanged.
"""

import hashlib
import zipfile
from pathlib import Path

CLASS = "org/pytorch/serve/http/api/rest/InferenceRequestHandler.class"
SHA256 = "915ac25d1f8a2360181528aa8eabd3c769ebd807d54798f0bce9bc934213eb93"  # of the class in 0.12.0
# "The Java Virtual Machine Specification", chapter 6: ldc pushes a constant, here "explain", then "False".
ADDS = bytes.fromhex("12 5e 12 95")
V1, V2 = bytes.fromhex("12 5e 12 6e"), bytes.fromhex("12 5e 12 70")  # "explain", then the class's own "v1" and "v2"


def write_routes(folder: Path, jar: Path) -> bool:
    """Write the class under a folder that goes before TorchServe on the class path.

    Args:
        jar: TorchServe's frontend.

    Returns:
        Whether it was written; False where the class in the jar is that of another release.
    """
    path = folder / CLASS
    path.unlink(missing_ok=True)
    try:
        with zipfile.ZipFile(jar) as archive:
            original = archive.read(CLASS)
    except Exception:  # any error of the reader: Java reports a damaged jar better
        return False
    if hashlib.sha256(original).hexdigest() != SHA256:
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(naming(original))
    return True


def naming(original: bytes) -> bytes:
    """Return the class with the protocols' names.

    Three methods add the header, in this order: of TorchServe's own route, of v1, of v2.
    """
    own, v1, v2, rest = original.split(ADDS)
    return b"".join([own, ADDS, v1, V1, v2, V2, rest])
