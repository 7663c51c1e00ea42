"""TorchServe entry point for models whose only input is a text."""

from handlers.formats.text import TextCodec
from handlers.service import Service


class TextService(Service):
    """Serves texts in the formats that every model has."""

    codec = TextCodec
