"""What hypothesis draws: contracts of any datatypes and shapes, and arrays that fit them."""

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
    return contract(*(draw(specs(name)) for name in NAMES[: draw(st.integers(1, 3))]))


@st.composite
def arrays(draw: st.DrawFn, spec: TensorSpec, rows: int) -> Array:
    """Any values that fit a tensor, as the client holds them: of a category its name."""
    shape = (rows, *spec.shape[1:])
    if spec.datatype == "BYTES":
        values = st.sampled_from(spec.categories) if spec.categories else TEXT
        return draw(hnp.arrays(object, shape, elements=values, fill=st.nothing()))
    floating = spec.datatype.startswith("FP")
    return draw(
        hnp.arrays(spec.dtype, shape, elements={"allow_nan": False, "allow_infinity": False} if floating else None)
    )


@st.composite
def requests(draw: st.DrawFn) -> tuple[ModelContract, dict[str, Array]]:
    """A model, and some rows that fit it."""
    model = draw(contracts())
    rows = draw(st.integers(1, 4))
    return model, {spec.name: draw(arrays(spec, rows)) for spec in model.inputs}
