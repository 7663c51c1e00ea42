"""Parameters that a model's makers publish for it: the defaults of requests that leave them out."""

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from handlers.language.api.requests import TextRequest

FILE = "generation_config.json"  # in the archive, as Hugging Face names it


class Defaults(msgspec.Struct, frozen=True, omit_defaults=True):
    """The members of ``generation_config.json`` that are taken, as vLLM takes them; others say nothing here.

    Attributes:
        temperature: None for the API's default, as of each.
    """

    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=0)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    repetition_penalty: Annotated[float, Meta(gt=0, le=10)] | None = None

    def of(self, request: TextRequest) -> TextRequest:
        """Return a request with these in the place of what its client left out."""
        own = {name: value for name in request.unset if (value := getattr(self, name)) is not None}
        return replace(request, sampling=replace(request.sampling, **own)) if own else request


NO_DEFAULTS = Defaults()


def read_defaults(path: Path) -> Defaults:
    """Read a file that may be missing.

    Raises:
        ValueError: it is no JSON object, or a parameter is out of its range.
    """
    try:
        return msgspec.json.decode(path.read_bytes(), type=Defaults)
    except FileNotFoundError:
        return NO_DEFAULTS
    except msgspec.MsgspecError as error:
        raise ValueError(f"{path.name} has a fault: {error}") from error
