"""One row as a pydantic model, as a user would write it by hand from the contract."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, Field, create_model


def row_schema(contract: dict[str, Any]) -> type[BaseModel]:
    """Return the type of one row: a field for each feature, or ``inputs`` for a model with one array."""
    specs = contract["inputs"]
    if len(specs) == 1:
        value: Any = Annotated[float, Field(ge=0, le=255)]
        for size in reversed(specs[0]["shape"][1:]):
            value = Annotated[list[value], Field(min_length=size, max_length=size)]
        return create_model("Row", inputs=(value, ...))
    fields: Any = {spec["name"]: (_feature(spec), ...) for spec in specs}
    return create_model("Row", **fields)


def _feature(spec: dict[str, Any]) -> Any:
    if spec.get("categories"):
        return Literal[tuple(spec["categories"])]
    low, high = spec["range"]
    kind: Any = float if spec["datatype"] == "FP32" else int
    return Annotated[kind, Field(ge=low, le=high)]
