"""TorchServe entry point for models whose inputs are features or plain tensors."""

from handlers.formats.codec import Codec
from handlers.service import Service


class TabularService(Service):
    """Serves the formats that every model has."""

    codec = Codec
