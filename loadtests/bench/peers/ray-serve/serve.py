"""Ray Serve with its dynamic batching and two replicas. ``serve.py PORT MODEL_DIR [proxy]``, HAProxy before them."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import ray
from pydantic import ValidationError
from ray import serve
from row_schema import row_schema
from served_model import Model
from starlette.requests import Request
from starlette.responses import JSONResponse


@serve.deployment(
    num_replicas=2,
    max_ongoing_requests=256,
    ray_actor_options={"num_cpus": 1},
    logging_config={"enable_access_log": False, "log_level": "WARNING"},
)
class Served:
    """A deployment that checks each request, and answers those that arrive together as one batch."""

    def __init__(self, directory: str) -> None:
        self._model = Model(Path(directory))
        self._row = row_schema(self._model.contract)

    async def __call__(self, request: Request) -> Any:
        """Answer one request."""
        try:
            row = self._row.model_validate_json(await request.body())
        except ValidationError as error:
            return JSONResponse(error.errors(include_input=False), 422)
        return {"prediction": await self.predict(vars(row))}

    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def predict(self, rows: list[dict[str, Any]]) -> list[Any]:
        """Answer a batch."""
        return self._model.predict(rows)


if __name__ == "__main__":
    port, directory, *proxy = sys.argv[1:]
    if proxy:
        os.environ |= {"RAY_SERVE_ENABLE_HA_PROXY": "1", "RAY_SERVE_THROUGHPUT_OPTIMIZED": "1"}
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # Two replicas and the proxy: as many processors as they ask for, whatever the machine has.
    ray.init(num_cpus=4, include_dashboard=False, object_store_memory=200_000_000, log_to_driver=False)
    serve.start(http_options={"host": "127.0.0.1", "port": int(port)})
    serve.run(Served.bind(directory), route_prefix="/predict")
    try:
        signal.pause()
    except KeyboardInterrupt:
        serve.shutdown()
        ray.shutdown()
