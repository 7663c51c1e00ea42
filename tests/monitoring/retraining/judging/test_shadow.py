import threading
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest

from handlers.contract import ModelContract, TensorSpec, classification_outputs
from monitoring.retraining.judging import shadow as shadowing
from monitoring.retraining.judging.shadow import _too_slow, request_again, require_agreement, shadow
from monitoring.retraining.policy import JudgePolicy
from monitoring.retraining.result import Shadowed
from monitoring.store.records import Prediction
from serving.hosts.host import LaunchError
from tests.support.documents import replaced
from tests.support.serving.stores import contract_of_doubling
from training.statistics.pair import Pair

CHAMPION, CHALLENGER = contract_of_doubling(version="1.0"), contract_of_doubling(version="1.1")
Answer = Callable[[str, dict[str, Any]], httpx.Response]  # version, request


def captured(number: int, **features: Any) -> Prediction:
    return Prediction(f"r{number}", 0, "doubling", "1.0", datetime.fromtimestamp(number, UTC), features, 0.0)


def answered(prediction: Any) -> httpx.Response:
    return httpx.Response(200, json={"prediction": prediction})


def doubled(version: str, request: dict[str, Any]) -> httpx.Response:
    return answered(2 * request["x"])


class Asked:
    """A TorchServe with both versions, which notes what it is asked."""

    def __init__(self, answer: Answer = doubled) -> None:
        self.answer = answer
        self.requests: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[httpx.Headers] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        assert request.url.path.startswith("/predictions/doubling/")
        version, body = request.url.path.split("/")[-1], msgspec.json.decode(request.content)
        self.requests.append((version, body))
        self.headers.append(request.headers)
        return self.answer(version, body)


def run(
    asked: Asked,
    predictions: list[Prediction],
    policy: JudgePolicy = JudgePolicy(latency=1000),  # noqa: B008
    stop: threading.Event | None = None,
    champion: ModelContract = CHAMPION,
) -> Shadowed:
    with httpx.Client(transport=httpx.MockTransport(asked)) as client:
        return shadow(client, "http://server", Pair(champion, CHALLENGER), predictions, policy, stop)


def test_the_newest_requests_go_to_both_versions_in_changing_order_and_are_not_captured() -> None:
    asked = Asked()
    found = run(asked, [captured(i, x=float(i)) for i in (3, 1, 2)], JudgePolicy(shadow_requests=2, latency=1000))
    two, three = {"x": 2.0}, {"x": 3.0}
    assert asked.requests == [("1.0", two), ("1.1", two), ("1.1", three), ("1.0", three)]
    assert {headers["x-marloop-capture"] for headers in asked.headers} == {"off"}
    assert (found.requests, found.rows, found.errors, found.agreement, found.passed) == (2, 2, 0, 1.0, True)
    assert found.reason.startswith("2 requests answered, ")
    msgspec.json.encode(found)


@pytest.mark.parametrize("policy", [JudgePolicy(), JudgePolicy(shadow_requests=0)])
def test_where_there_is_nothing_to_send_nothing_is_compared_and_the_challenger_passes(policy: JudgePolicy) -> None:
    asked = Asked()
    rows = [captured(1)] if policy.shadow_requests else [captured(1, x=1.0)]  # a row without its feature
    found = run(asked, rows, policy)
    assert (found.requests, found.passed) == (0, True)
    assert "not compared" in found.reason
    assert asked.requests == []


def test_answers_agree_that_differ_by_no_more_than_the_champions_held_out_error() -> None:
    champion = replaced(CHAMPION, evaluation={"metrics": {"rmse": 0.5}})
    asked = Asked(lambda version, request: answered(request["x"] * (2 if version == "1.0" else 2.1)))
    found = run(asked, [captured(i, x=float(i)) for i in (1, 2, 3, 4, 10)], champion=champion)
    assert found.agreement == 0.8
    assert found.passed  # how much they agree is told, not judged


def test_classes_agree_by_their_labels() -> None:
    champion = msgspec.structs.replace(
        CHAMPION, task="classification", labels=("low", "high"), outputs=classification_outputs(2)
    )

    def classified(version: str, request: dict[str, Any]) -> httpx.Response:
        label = "high" if request["x"] > (2 if version == "1.0" else 1) else "low"
        return answered({"label": label, "index": 0, "probability": 0.6 if version == "1.0" else 0.9})

    assert run(Asked(classified), [captured(i, x=float(i)) for i in range(4)], champion=champion).agreement == 0.75


@pytest.mark.parametrize("wrong", [httpx.Response(500, text="it\nfailed"), httpx.Response(200, text="no JSON")])
def test_what_only_the_challenger_fails_at_is_an_error_of_its(wrong: httpx.Response) -> None:
    def failing(version: str, request: dict[str, Any]) -> httpx.Response:
        if request["x"] == 1 or (version == "1.1" and request["x"] == 2):
            return wrong
        return doubled(version, request)

    found = run(Asked(failing), [captured(i, x=float(i)) for i in range(4)])
    assert (found.requests, found.rows, found.errors, found.passed) == (4, 2, 1, False)
    first = f"{wrong.status_code}: {' '.join(wrong.text.split())}"
    assert found.reason == f"1 of 3 requests failed that the champion answers, the first: {first}"


def test_a_challenger_that_hangs_fails() -> None:
    def hanging(version: str, request: dict[str, Any]) -> httpx.Response:
        if version == "1.1":
            raise httpx.ReadTimeout("late")
        return doubled(version, request)

    found = run(Asked(hanging), [captured(1, x=1.0)])
    assert (found.errors, found.passed) == (1, False)
    assert "no answer within 10 s" in found.reason


def test_nothing_is_said_of_a_challenger_where_torchserve_is_away_or_the_champion_silent() -> None:
    def away(version: str, request: dict[str, Any]) -> httpx.Response:
        if version == "1.1":
            raise httpx.ConnectError("refused")
        return doubled(version, request)

    with pytest.raises(LaunchError, match="the service does not answer on http://server: refused"):
        run(Asked(away), [captured(1, x=1.0)])
    silent = Asked(lambda version, request: httpx.Response(503, text="busy") if version == "1.0" else answered(1))
    with pytest.raises(LaunchError, match=r"doubling 1\.0, the champion, answers nothing: 503: busy"):
        run(silent, [captured(1, x=1.0)])


def test_it_ends_when_told_to_and_has_not_passed() -> None:
    stop = threading.Event()

    def stopping(version: str, request: dict[str, Any]) -> httpx.Response:
        stop.set()
        return doubled(version, request)

    found = run(Asked(stopping), [captured(i, x=float(i)) for i in range(4)], stop=stop)
    assert (found.requests, found.passed, found.reason) == (1, False, "stopped after 1 of 4 requests")


def test_it_ends_in_time_and_tells_of_what_was_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shadowing, "SECONDS", 0.01)
    policy = JudgePolicy(shadow_requests=1000, latency=1000)
    found = run(Asked(), [captured(i, x=float(i)) for i in range(1000)], policy)
    assert 0 < found.requests < 1000
    assert found.passed


def test_a_row_is_sent_as_its_model_takes_it() -> None:
    named = contract_of_doubling()
    assert request_again(named, captured(1, x=6.0, gone=1)) == {"x": 6.0}
    assert request_again(named, captured(1, y=6.0)) is None
    text = msgspec.structs.replace(named, inputs=(TensorSpec("text", "BYTES"),))
    assert request_again(text, captured(1, text="A fine film.")) == {"text": "A fine film."}
    lacking = msgspec.structs.replace(named, inputs=(TensorSpec("x", "FP32", nullable=True),))
    assert request_again(lacking, captured(1, x=None)) == {"x": None}
    pair = msgspec.structs.replace(named, inputs=(TensorSpec("v", "FP32", (-1, 2)),))
    assert request_again(pair, captured(1, v=[1.0, 2.0])) == {"inputs": [1.0, 2.0]}
    picture = msgspec.structs.replace(named, inputs=(TensorSpec("image", "UINT8", (-1, 28, 28)),))
    assert request_again(picture, captured(1, image=72.9)) is None  # only its mean was captured


@pytest.mark.parametrize(("slower", "refused"), [(1.0, (0.0, 0.0)), (1.2, (0.0, 0.08)), (1.5, (0.99, 1.0))])
def test_a_challenger_as_slow_as_allowed_is_seldom_refused_and_a_slower_one_nearly_always(
    slower: float, refused: tuple[float, float]
) -> None:
    random = np.random.default_rng(0)
    draws = random.lognormal(0, 0.4, (500, 200, 2)) * [1, slower]  # 500 shadows of 200 requests
    share = np.mean([_too_slow(taken, 1.2) for taken in draws])
    assert refused[0] <= share <= refused[1]


def shadowed(rows: int = 200, agreement: float = 0.9, passed: bool = True) -> Shadowed:
    return Shadowed(rows, rows, 0, agreement, 4.0, 4.0, 6.0, 6.0, passed, "answered" if passed else "too slow")


def test_where_no_truth_is_known_the_answers_must_agree() -> None:
    policy = JudgePolicy(agreement=0.8)
    found = require_agreement(shadowed(), policy)
    assert (found.passed, found.reason) == (True, "answered; 90.0% of the answers agree")
    found = require_agreement(shadowed(agreement=0.79), policy)
    why = "79.0% of the answers agree, where 80.0% are needed where they alone decide (MARLOOP_JUDGE_AGREEMENT)"
    assert (found.passed, found.reason) == (False, why)


def test_where_no_truth_is_known_some_requests_must_be_compared() -> None:
    found = require_agreement(shadowed(rows=19, agreement=1.0), JudgePolicy())
    assert (found.passed, found.reason[:27]) == (False, "19 requests were compared, ")
    assert require_agreement(shadowed(rows=5, agreement=1.0), JudgePolicy(shadow_requests=5)).passed
    nothing = Shadowed(0, passed=True, reason="not compared")
    assert not require_agreement(nothing, JudgePolicy()).passed


def test_what_the_shadow_refuses_stays_refused() -> None:
    assert require_agreement(shadowed(passed=False), JudgePolicy()).reason == "too slow"
