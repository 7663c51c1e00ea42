"""TorchServe entry point for models whose only input is an image."""

from handlers.formats.image import ImageCodec
from handlers.service import Service


class ImageService(Service):
    """Serves pictures beside the formats that every model has."""

    codec = ImageCodec
