"""BentoML with its adaptive batching and two workers. ``serve.py PORT MODEL_DIR``."""

import os
import sys
from pathlib import Path
from typing import Any

import bentoml
from row_schema import row_schema
from served_model import Model

DIRECTORY = Path(os.environ.get("MODEL_DIR") or sys.argv[2])
Row: Any = row_schema(Model(DIRECTORY).contract)


@bentoml.service(workers=2, traffic={"timeout": 60}, logging={"access": {"enabled": False}})
class Served:
    """A batchable API takes a list of rows; the lists of several requests become one batch."""

    def __init__(self) -> None:
        self._model = Model(DIRECTORY)

    @bentoml.api(batchable=True, max_batch_size=64, max_latency_ms=1000)
    async def predict(self, rows: list[Row]) -> list[Any]:
        """Answer rows."""
        return self._model.predict([vars(row) for row in rows])


if __name__ == "__main__":
    port, directory = sys.argv[1:]
    command = [str(Path(sys.executable).with_name("bentoml")), "serve", "serve:Served", "--port", port]
    environment = os.environ | {"MODEL_DIR": directory, "BENTOML_DO_NOT_TRACK": "True"}
    os.execve(command[0], [*command, "--host", "127.0.0.1", "--working-dir", str(Path(__file__).parent)], environment)
