"""More requests than a model can answer: those too many are told to come back, and the others get right answers."""

import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from tests.integration.conftest import Server

CLIENTS = 240  # nearly four batches of 64
EACH = 4  # requests
WAITED = 30.0  # s that each request says it has waited before
ROWS = [{"x": i / 7} for i in range(1024)]


def test_who_has_no_turn_soon_is_told_when_to_come_back_and_the_others_get_their_answers(own: Server) -> None:
    url = f"{own.url}/v1/models/linear:predict"

    def client(_: int) -> list[tuple[int, str, bool]]:
        answers = []
        for _ in range(EACH):
            with httpx.Client(timeout=60) as once:  # TorchServe closes the connection of whoever it turns away
                started = {"X-Request-Start": f"t={time.time() - WAITED}"}
                response = once.post(url, json={"instances": ROWS}, headers=started)
            right = len(response.json().get("predictions", ())) == 1024 or '"overloaded"' in response.text
            answers.append((response.status_code, response.headers.get("Retry-After", ""), right))
        return answers

    with ThreadPoolExecutor(CLIENTS) as clients:
        found = Counter(answer for answers in clients.map(client, range(CLIENTS)) for answer in answers)
    # A machine that answers a whole batch in no time turns nobody away.
    assert {(200, "", True)} <= found.keys() <= {(200, "", True), (503, "1", True)}, found
    response = own.client.post(f"{own.url}/predictions/linear", json={"x": 6})
    assert response.json()["prediction"] == pytest.approx(12, abs=0.01)
