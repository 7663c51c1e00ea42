"""MLServer's codecs: a table and an array of a client as a request, and the answer as a table."""

import json
import sys
import urllib.error
import urllib.request
from typing import Any

import numpy as np
import pandas as pd
from mlserver.codecs import NumpyCodec, PandasCodec
from mlserver.types import InferenceRequest, InferenceResponse

TABLE = pd.DataFrame(
    {
        "distance": [1400, 2475],
        "hour": [8.0, 18.0],  # as pandas has integers where one is missing elsewhere
        "carrier": ["UA", "DL"],
        "origin": ["EWR", "JFK"],
        "dest": ["IAH", "LAX"],
    }
)


def ask(url: str, request: InferenceRequest, with_null: bool) -> Any:
    """The first column of the answer, or the error's text."""
    body = request.model_dump_json(exclude_none=not with_null).encode()
    sent = urllib.request.Request(url, body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(sent) as answer:
            response = InferenceResponse.model_validate_json(answer.read())
    except urllib.error.HTTPError as error:
        return json.loads(error.read())["error"]
    return PandasCodec.decode_response(response).iloc[:, 0].tolist()


def main(url: str) -> dict[str, Any]:
    """Ask ``flights`` a table and ``linear`` an array, with null for what is not said and without."""
    flights, linear = (f"{url}/v2/models/{name}/infer" for name in ("flights", "linear"))
    table = PandasCodec.encode_request(TABLE, use_bytes=False)
    array = InferenceRequest(id=None, inputs=[NumpyCodec.encode_input("x", np.array([1, 6]))])
    unknown = PandasCodec.encode_request(TABLE.assign(carrier=["ua", "DL"]), use_bytes=False)
    report = {f"table {null}": ask(flights, table, null) for null in (False, True)}
    report |= {f"array {null}": ask(linear, array, null) for null in (False, True)}
    return report | {"unknown": ask(flights, unknown, False)}


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(*sys.argv[1:])))
