"""The shadow: clients' recent requests are sent to champion and challenger before the challenger is promoted.

Both versions get each request, one after the other, in changing order, so that load on the machine slows both. The
challenger passes if it answers every request that the champion answers and is, beyond chance, not too slow. The share
of equal answers is reported, not judged: a challenger is promoted because it differs. Only where nothing
else tells how good it is, its answers must agree as well.
"""

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import msgspec
import numpy as np
from msgspec import UNSET
from scipy.stats import binomtest

from handlers.contract import Array, ModelContract
from handlers.formats.requests import native_request
from handlers.observe.capture import SWITCH
from handlers.observe.events import is_sent_whole
from monitoring.retraining.judging.agreement import agreements
from monitoring.retraining.policy import JudgePolicy
from monitoring.retraining.result import Shadowed
from monitoring.store.records import Prediction
from serving.hosts.host import LaunchError
from training.statistics.pair import Pair

LONGEST = 10.0  # s; an answer that takes longer has failed
SECONDS = 60.0  # after which no more requests are sent
CHANCE = 0.05  # how often a challenger that is exactly as slow as allowed is refused for it
HEADERS = {SWITCH: "off"}  # neither version's answer is a client's
FEWEST = 20  # requests that must be compared where they alone decide


@dataclass(frozen=True)
class _Answer:
    prediction: Any  # None if there is none
    milliseconds: float
    fault: str


def shadow(
    client: httpx.Client,
    url: str,
    contracts: Pair[ModelContract],
    predictions: Sequence[Prediction],
    policy: JudgePolicy,
    stop: threading.Event | None = None,
) -> Shadowed:
    """Send captured requests to two versions that are served.

    Args:
        url: address of the inference port.
        predictions: captured rows of the model; the newest are sent.
        policy: number of requests, and the allowed slowness.
        stop: ends it early; the result is then of a part, and not passed.

    Raises:
        LaunchError: the service is away, or the champion answers nothing, so that the challenger has no match.
    """
    champion, challenger = contracts
    oldest_first = sorted(predictions, key=lambda prediction: prediction.time)
    newest = oldest_first[max(0, len(predictions) - policy.shadow_requests) :]
    bodies = [body for body in (request_again(champion, prediction) for prediction in newest) if body is not None]
    deadline = time.monotonic() + SECONDS
    pairs: list[Pair[_Answer]] = []
    for body in bodies:
        if (stop and stop.is_set()) or (pairs and time.monotonic() > deadline):
            break
        order = [champion, challenger] if len(pairs) % 2 == 0 else [challenger, champion]
        answers = {contract.version: _ask(client, url, contract, body) for contract in order}
        pairs.append(Pair(answers[champion.version], answers[challenger.version]))
    if stop and stop.is_set():
        return _result(champion, pairs, False, f"stopped after {len(pairs)} of {len(bodies)} requests")
    if not pairs:
        return _result(champion, pairs, True, "not compared: there is no captured request that can be sent again")
    return _result(champion, pairs, *_verdict(champion, pairs, policy))


def least_requests(policy: JudgePolicy) -> int:
    """Return how many requests must be compared where they alone decide."""
    return min(FEWEST, policy.shadow_requests)


def require_agreement(shadowed: Shadowed, policy: JudgePolicy) -> Shadowed:
    """Return the result for a challenger of which nothing else tells how good it is: its answers must agree."""
    if not shadowed.passed:
        return shadowed
    rows = 0 if shadowed.rows is UNSET else shadowed.rows
    agreement = 0.0 if shadowed.agreement is UNSET else shadowed.agreement
    if rows < least_requests(policy):
        why = f"{rows} requests were compared, and {least_requests(policy)} are needed where they alone decide"
        return msgspec.structs.replace(shadowed, passed=False, reason=why)
    told = f"{agreement:.1%} of the answers agree"
    if agreement < policy.agreement:
        why = f"{told}, where {policy.agreement:.1%} are needed where they alone decide (MARLOOP_JUDGE_AGREEMENT)"
        return msgspec.structs.replace(shadowed, passed=False, reason=why)
    return msgspec.structs.replace(shadowed, reason=f"{shadowed.reason}; {told}")


def request_again(contract: ModelContract, prediction: Prediction) -> dict[str, Any] | None:
    """Return a captured row as a native request; None if too little of it was captured to send it again."""
    features = prediction.features
    for spec in contract.inputs:
        if (features.get(spec.name) is None and not spec.nullable) or not is_sent_whole(spec):
            return None
    return native_request(contract, {spec.name: features.get(spec.name) for spec in contract.inputs})


def _ask(client: httpx.Client, url: str, contract: ModelContract, body: dict[str, Any]) -> _Answer:
    path = f"{url}/predictions/{contract.name}/{contract.version}"
    started = time.perf_counter()
    prediction = None
    try:
        response = client.post(path, json=body, headers=HEADERS, timeout=LONGEST)
        milliseconds = 1000 * (time.perf_counter() - started)
        fault = f"{response.status_code}: {' '.join(response.text.split())[:200]}"
        if response.status_code == 200:
            prediction = response.json()["prediction"]
    except httpx.TimeoutException:
        milliseconds, fault = 1000 * LONGEST, f"no answer within {LONGEST:g} s"
    except httpx.TransportError as error:  # the frontend's, which both versions share
        raise LaunchError(f"the service does not answer on {url}: {str(error) or type(error).__name__}") from error
    except (ValueError, KeyError, TypeError):
        pass  # not the native format: the fault says what it is instead
    return _Answer(prediction, milliseconds, fault)


def _verdict(champion: ModelContract, pairs: Sequence[Pair[_Answer]], policy: JudgePolicy) -> tuple[bool, str]:
    """Return whether the challenger passes, and why."""
    comparable = [pair for pair in pairs if pair.champion.prediction is not None]
    if not comparable:
        raise LaunchError(f"{champion.name} {champion.version}, the champion, answers nothing: {pairs[0][0].fault}")
    faults = [new.fault for _, new in comparable if new.prediction is None]
    if faults:
        count = f"{len(faults)} of {len(comparable)}"
        return False, f"{count} requests failed that the champion answers, the first: {faults[0]}"
    latencies = _milliseconds(comparable)
    old, new = np.median(latencies, axis=0)
    times = f"{new:.1f} ms against {old:.1f} ms in the middle"
    if _too_slow(latencies, policy.latency):
        return False, f"too slow: {times}, where {policy.latency:g} times is allowed"
    return True, f"{len(comparable)} requests answered, {times}"


def _result(champion: ModelContract, pairs: Sequence[Pair[_Answer]], passed: bool, reason: str) -> Shadowed:
    rows = [pair for pair in pairs if all(answer.prediction is not None for answer in pair)]
    answers = [Pair(old.prediction, new.prediction) for old, new in rows]
    (old_ms, new_ms), (old_p95, new_p95) = np.quantile(_milliseconds(rows), [0.5, 0.95], axis=0).tolist()
    return Shadowed(
        requests=len(pairs),
        rows=len(rows),
        errors=sum(old.prediction is not None and new.prediction is None for old, new in pairs),
        agreement=float(agreements(champion, answers).mean()) if rows else 0.0,
        champion_ms=old_ms,
        challenger_ms=new_ms,
        champion_p95_ms=old_p95,
        challenger_p95_ms=new_p95,
        passed=passed,
        reason=reason,
    )


def _milliseconds(rows: Sequence[Pair[_Answer]]) -> Array:
    """Return ``(rows, 2)`` in ms, one row of zeros where there is none."""
    return np.array([(old.milliseconds, new.milliseconds) for old, new in rows] or [(0.0, 0.0)])


def _too_slow(latencies: Array, limit: float) -> bool:
    """Return whether over half of the pairs' ratios exceed the limit, by the sign test, as times have long tails."""
    over = int((latencies[:, 1] > limit * latencies[:, 0]).sum())
    return bool(binomtest(over, len(latencies), 0.5, alternative="greater").pvalue < CHANCE)
