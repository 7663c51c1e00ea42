"""FastAPI as its documentation shows it: a pydantic model in, a pydantic model out. ``serve.py PORT MODEL_DIR``."""

import os
import sys
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI
from pydantic import BaseModel
from row_schema import row_schema
from served_model import Model


class Answer(BaseModel):
    """The response."""

    prediction: Any


def create() -> FastAPI:
    """Build the application; each worker builds its own."""
    model = Model(Path(os.environ["MODEL_DIR"]))
    row: Any = row_schema(model.contract)
    app = FastAPI()

    # A computation far below a millisecond costs less than the hand-over to a thread, which `def` would mean.
    async def predict(request: row) -> Answer:
        return Answer(prediction=model.predict([vars(request)])[0])

    app.post("/predict")(predict)
    return app


if __name__ == "__main__":
    port, os.environ["MODEL_DIR"] = sys.argv[1:]
    uvicorn.run("serve:create", factory=True, port=int(port), workers=2, access_log=False, log_level="warning")
