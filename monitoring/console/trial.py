"""One request to a served model, as a client would send it, from a filled-in form."""

import time
import uuid
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote

import httpx
import msgspec

from handlers.contract import ModelContract
from handlers.contract.example import request_of as example_request
from handlers.message import JSON
from monitoring.console.form import FormError, is_picture, parse, request_of

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
LARGEST = 6_000_000  # bytes of a body; TorchServe accepts little more (config.properties, max_request_size)
SHOWN_CLASSES = 5
LONGEST_FAULT = 300  # characters of an answer that is shown in a sentence
MOST_TOKENS = 64  # of a language model's answer, which must be complete before the client's time-out


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial.

    Attributes:
        status: status of the page: 200, 422 for a fault of the form, 502 for one of the service.
        fault: a sentence; empty if there is an answer.
        answer: answer in the native format; of a language model its text, why it ended, and the numbers of tokens.
        request_id: the id for feedback.
        milliseconds: from sent to answered, as measured by the monitor.
        version: the version that got the request.
    """

    status: int
    fault: str = ""
    answer: Any = None
    request_id: str = ""
    milliseconds: float = 0.0
    version: str = ""

    @property
    def classes(self) -> list[dict[str, Any]]:
        """Return the likeliest classes of a classification."""
        match self.answer:
            case {"top_k": list(classes)}:
                return classes
            case {"label": _, "probability": _}:
                return [self.answer]
        return []

    @property
    def token_rate(self) -> float:
        """Return the tokens a second of a language model's answer, from sent to answered."""
        return float(1000 * self.answer["usage"]["completion_tokens"] / self.milliseconds)


class Trial:
    """Sends requests to the models of one service, and to nothing else.

    Args:
        url: address of its inference port.
    """

    def __init__(self, url: str, client: httpx.Client) -> None:
        self._url, self._client = url, client

    def ask(self, contract: ModelContract, content_type: str, body: bytes) -> TrialResult:
        """Send a request to the version of a contract, whose name and version make the address.

        Args:
            body: the form as the browser sent it; one with a picture is forwarded unchanged.
        """
        try:
            content, sent_type = _content(contract, content_type, body)
        except FormError as error:
            return TrialResult(422, str(error))
        request_id = f"console-{uuid.uuid4()}"
        headers = {"Content-Type": sent_type, "X-Request-Id": request_id}
        if contract.most_classes > 1:
            headers["X-Top-K"] = str(min(SHOWN_CLASSES, contract.most_classes))
        path = f"/predictions/{quote(contract.name, safe='')}/{quote(contract.version, safe='')}"
        started = time.perf_counter()
        try:
            response = self._client.post(self._url + path, content=content, headers=headers)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            return TrialResult(502, f"The service cannot be reached: {str(error) or type(error).__name__}.")
        milliseconds = 1000 * (time.perf_counter() - started)
        result = _as_it_is(response) if contract.task == "opaque" else _decode(response)
        return replace(result, request_id=request_id, milliseconds=milliseconds, version=contract.version)


def _as_it_is(response: httpx.Response) -> TrialResult:
    """Return what a handler from elsewhere answered: JSON, a text, or how many bytes of what."""
    kind = response.headers.get("content-type", "")
    try:
        answer = response.json()
    except ValueError:
        text = kind.startswith("text/")
        answer = response.text if text else f"{len(response.content):,} bytes of {kind or 'an unknown type'}"
    if response.is_success:
        return TrialResult(200, answer=answer)
    return TrialResult(502, f"Its handler answered {response.status_code}: {response.text[:LONGEST_FAULT]}")


def _decode(response: httpx.Response) -> TrialResult:
    try:
        answer = response.json()
    except ValueError:
        return TrialResult(502, f"The service answered {response.status_code}, which is no JSON.")
    match answer:
        case {"prediction": prediction} if response.is_success:
            return TrialResult(200, answer=prediction)
        case {"text": str(), "finish_reason": _, "usage": {"completion_tokens": int()}} if response.is_success:
            return TrialResult(200, answer=answer)
        case {"error": {"message": message, "path": where, "expected": expected}}:
            right = f"; it must be {expected}" if expected else ""
            return TrialResult(422, f"The model refused {where}: {message}{right}.")
        case {"message": message}:
            return TrialResult(502, f"The service answered {response.status_code}: {message}")
    return TrialResult(502, f"The service answered {response.status_code} with what is no prediction.")


def _content(contract: ModelContract, content_type: str, body: bytes) -> tuple[bytes, str]:
    """Return the body of the request and its type; a form without a picture gives the contract's example.

    Raises:
        FormError: the form has no value for an input, or none that can be sent.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if kind == MULTIPART and is_picture(contract):
        return body, content_type
    if kind != FORM:
        raise FormError(f"A form of type {kind or 'none'} cannot be read here.")
    if contract.task == "opaque":
        example, own_type = example_request(contract)
        return parse(body).get("body", "").encode() or example, own_type
    if is_picture(contract):
        return msgspec.json.encode(contract.example.request), JSON
    request = request_of(contract, parse(body))
    if contract.task == "generation":
        request |= {"max_tokens": MOST_TOKENS, "temperature": 0}
    return msgspec.json.encode(request), JSON
