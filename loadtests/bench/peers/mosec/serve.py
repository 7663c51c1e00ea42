"""mosec, a server in Rust before two workers, with its dynamic batching. ``serve.py PORT MODEL_DIR``."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import mosec
import pydantic
from row_schema import row_schema
from served_model import Model


class Served(mosec.Worker):
    """The steps of mosec: deserialize, forward, serialize."""

    def __init__(self) -> None:
        self._model = Model(Path(os.environ["MODEL_DIR"]))
        self._row = row_schema(self._model.contract)

    def deserialize(self, data: bytes) -> dict[str, Any]:
        """Check one request."""
        try:
            return vars(self._row.model_validate_json(data))
        except pydantic.ValidationError as error:
            raise mosec.ValidationError(error.errors(include_input=False, include_url=False)) from None

    def forward(self, data: list[dict[str, Any]]) -> list[Any]:
        """Answer a batch."""
        return self._model.predict(data)

    def serialize(self, data: Any) -> bytes:
        """Build the response to one request."""
        return json.dumps({"prediction": data}).encode()


if __name__ == "__main__":
    port, os.environ["MODEL_DIR"] = sys.argv[1:]
    sys.argv[1:] = ["--address", "127.0.0.1", "--port", port, "--log-level", "warning"]
    server = mosec.Server()
    server.append_worker(Served, num=2, max_batch_size=64, max_wait_time=1, route="/predict")
    server.run()
