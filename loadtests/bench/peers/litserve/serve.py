"""LitServe with its dynamic batching and two workers. ``serve.py PORT MODEL_DIR``."""

import sys
from pathlib import Path
from typing import Any

import litserve
from fastapi import HTTPException
from pydantic import ValidationError
from row_schema import row_schema
from served_model import Model


class Api(litserve.LitAPI):
    """The steps of LitServe: decode, predict, encode."""

    def __init__(self, directory: Path) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.001)
        self._directory = directory

    def setup(self, device: str) -> None:
        """Load the model; each worker does."""
        self._model = Model(self._directory)
        self._row = row_schema(self._model.contract)

    def decode_request(self, request: dict[str, Any]) -> dict[str, Any]:
        """Check one request."""
        try:
            return vars(self._row.model_validate(request))
        except ValidationError as error:
            raise HTTPException(422, error.errors(include_input=False, include_url=False)) from None

    def batch(self, inputs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Return the rows of a batch as they are: the model makes the arrays."""
        return inputs

    def predict(self, x: list[dict[str, Any]]) -> list[Any]:
        """Answer a batch."""
        return self._model.predict(x)

    def unbatch(self, output: list[Any]) -> list[Any]:
        """Return the answers one by one."""
        return output

    def encode_response(self, output: Any) -> dict[str, Any]:
        """Build the response to one request."""
        return {"prediction": output}


if __name__ == "__main__":
    port, directory = sys.argv[1:]
    server = litserve.LitServer(Api(Path(directory)), accelerator="cpu", workers_per_device=2, fast_queue=True)
    server.run(host="127.0.0.1", port=int(port), generate_client_file=False, log_level="warning", access_log=False)
