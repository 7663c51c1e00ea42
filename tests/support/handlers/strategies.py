"""What hypothesis draws: contracts of any datatypes and shapes, and arrays that fit them."""

from typing import Any

import msgspec
import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from handlers.contract import DTYPES, Array, ModelContract, TensorSpec
from tests.support.handlers.models import contract

# NumPy's own strings cannot end in NUL.
TEXT = st.text(max_size=5).map(lambda text: text.rstrip("\0"))
NAMES = ("a", "b", "c")


@st.composite
def specs(draw: st.DrawFn, name: str = "x", datatypes: tuple[str, ...] = tuple(DTYPES)) -> TensorSpec:
    """A tensor of any datatype with up to two dimensions beside the batch."""
    datatype = draw(st.sampled_from(datatypes))
    if datatype == "BYTES" and draw(st.booleans()):
        return TensorSpec(name, datatype, categories=tuple(draw(st.lists(TEXT, min_size=1, max_size=4, unique=True))))
    inner = draw(st.lists(st.integers(1, 3), max_size=2))
    return TensorSpec(name, datatype, (-1, *inner))


@st.composite
def contracts(draw: st.DrawFn) -> ModelContract:
    """A model of one to three inputs."""
    return contract(*(draw(nullable(draw(specs(name)))) for name in NAMES[: draw(st.integers(1, 3))]))


@st.composite
def nullable(draw: st.DrawFn, spec: TensorSpec) -> TensorSpec:
    """A tensor that may be nullable where it can be: a number with a default or without, category and text with one."""
    number = spec.is_scalar and spec.is_float
    closed = bool(spec.categories) and "" not in spec.categories
    if not (number or closed or spec.is_text) or not draw(st.booleans()):
        return spec
    defaults = spec.categories or (("", "none") if spec.is_text else (None, -1.0))
    default: float | str | None = draw(st.sampled_from(defaults))
    return msgspec.structs.replace(spec, nullable=True, default=default)


@st.composite
def arrays(draw: st.DrawFn, spec: TensorSpec, rows: int) -> Array:
    """Any values that fit a tensor, as the client holds them: of a category its name."""
    shape = (rows, *spec.shape[1:])
    if spec.datatype == "BYTES":
        names = (*spec.categories, None) if spec.nullable else spec.categories
        free: Any = TEXT.map(lambda text: text or None) if spec.nullable else TEXT
        texts: Any = st.sampled_from(names) if spec.categories else free
        return np.asarray(draw(hnp.arrays(object, shape, elements=texts, fill=st.nothing())))
    floating = spec.is_float
    bounds: Any = {"allow_nan": spec.nullable, "allow_infinity": False} if floating else None
    values: Any = draw(hnp.arrays(spec.dtype, shape, elements=bounds))
    if floating:
        values[np.isnan(values)] = np.nan  # of usual bits
    if spec.datatype == "BF16":
        values = (values.view("<u4") & 0xFFFF0000).view("<f4")
    return np.asarray(values)


@st.composite
def requests(draw: st.DrawFn) -> tuple[ModelContract, dict[str, Array]]:
    """A model, and some rows that fit it."""
    model = draw(contracts())
    rows = draw(st.integers(1, 4))
    return model, {spec.name: draw(arrays(spec, rows)) for spec in model.inputs}
