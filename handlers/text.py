"""TorchServe entry point for models whose only input is a text."""

from handlers.service import Service
from handlers.text_codec import TextCodec


class TextService(Service):
    """Serves texts in the formats that every model has."""

    codec = TextCodec
