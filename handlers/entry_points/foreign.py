"""TorchServe entry point for handlers that were written elsewhere, each in a process of its own."""

from handlers.engine import Engine
from handlers.engine.foreign import ForeignHandler
from handlers.formats.opaque import OpaqueCodec
from handlers.service import Service, patience
from handlers.torchserve import Unpacked, positive


class ForeignService(Service):
    """Serves requests as its handler takes them, and answers as it makes them."""

    codec = OpaqueCodec

    def open_engine(self, unpacked: Unpacked, threads: int) -> tuple[Engine, tuple[str, str]]:
        """Start the handler; the threads are its own affair."""
        batch_size = positive(unpacked.settings, "max_rows", 1)
        name = unpacked.contract.name
        self._foreign = ForeignHandler(unpacked.directory, name, batch_size, patience(unpacked.config))
        return self._foreign, ("foreign", ForeignHandler.graph)

    def close(self) -> None:
        """End the process of the handler."""
        self._foreign.close()
