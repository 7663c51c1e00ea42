"""FastAPI tuned by hand: orjson, a raw response, checks in plain Python. ``serve.py PORT MODEL_DIR WORKERS ROUTE``.

ROUTE is ``fastapi``, or ``starlette`` for a route of the library below it, without FastAPI's handling of parameters and
dependencies: no longer FastAPI, but as fast as an application of this kind can be.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import uvicorn
from fastapi import FastAPI, Request, Response
from served_model import Model

Check = Callable[[Any], dict[str, Any]]


def create() -> FastAPI:
    """Build the application; each worker builds its own."""
    model = Model(Path(os.environ["MODEL_DIR"]))
    check = features_check(model.contract) if len(model.contract["inputs"]) > 1 else array_check(model.contract)

    async def predict(request: Request) -> Response:
        try:
            row = check(orjson.loads(await request.body()))
            body = orjson.dumps({"prediction": model.predict([row])[0]})
        except (KeyError, TypeError, ValueError) as error:
            return Response(orjson.dumps({"error": str(error)}), 400, media_type="application/json")
        return Response(body, media_type="application/json")

    app = FastAPI(openapi_url=None)
    if os.environ["ROUTE"] == "starlette":
        app.add_route("/predict", predict, methods=["POST"])
    else:
        app.post("/predict")(predict)
    return app


def features_check(contract: dict[str, Any]) -> Check:
    """Return a check of a row's features: exact names, numbers in their range; the look-up checks categories."""
    names = {spec["name"] for spec in contract["inputs"]}
    ranges = {spec["name"]: spec["range"] for spec in contract["inputs"] if spec.get("range")}

    def check(row: Any) -> dict[str, Any]:
        if row.keys() != names:
            raise ValueError(f"a row has {sorted(names)}")
        for name, (low, high) in ranges.items():
            if not low <= row[name] <= high:
                raise ValueError(f"{name} is {row[name]}, not from {low} to {high}")
        return row  # type: ignore[no-any-return]

    return check


def array_check(contract: dict[str, Any]) -> Check:
    """Return a check of an array: its shape, and that its values are from 0 to 255."""
    shape = tuple(contract["inputs"][0]["shape"][1:])

    def check(row: Any) -> dict[str, Any]:
        values = np.array(row["inputs"], np.float32)
        if values.shape != shape or not (values.min() >= 0 and values.max() <= 255):
            raise ValueError(f"inputs is an array of shape {shape}, values from 0 to 255")
        return {"inputs": values}

    return check


if __name__ == "__main__":
    port, os.environ["MODEL_DIR"], workers, os.environ["ROUTE"] = sys.argv[1:]
    uvicorn.run(
        "serve:create",
        factory=True,
        port=int(port),
        workers=int(workers),
        loop="uvloop",
        http="httptools",
        ws="none",
        lifespan="off",
        access_log=False,
        log_level="warning",
    )
