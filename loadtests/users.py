"""The users: one class a model, who ask at a steady pace and look at every answer."""

import random
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from locust import FastHttpUser, constant, constant_pacing, task

from handlers.contract import ModelContract
from loadtests.chat_users import ChatUser
from loadtests.requests import conversations
from loadtests.requests.answers import complaint
from loadtests.requests.faults import invalid
from loadtests.requests.payloads import Payload, edge, example, valid
from loadtests.requests.shedding import is_shed, marked
from loadtests.results.tally import name_of, shed_name

POOL = 500  # requests of a model that are drawn before the run: drawing must not slow the load down
SHARES = {"example": 0.01, "edge": 0.05, "invalid": 0.05}  # the rest is valid


class ModelUser(FastHttpUser):
    """Asks one model.

    Attributes:
        contract: of the model.
        pool: requests, one of which is sent each time.
    """

    abstract = True
    network_timeout = 30.0
    connection_timeout = 10.0
    contract: ClassVar[ModelContract]
    pool: ClassVar[Sequence[Payload]]

    @task
    def ask(self) -> None:
        """Send a request and look at the answer."""
        model, payload = self.contract.name, random.choice(self.pool)
        with self.client.request(
            "POST",
            payload.path(model),
            name=name_of(model, payload),
            data=payload.body,  # type: ignore[arg-type]  # bytes are sent as they are
            headers=marked(payload.headers),
            catch_response=True,
        ) as response:
            if response.status_code == 0:
                response.failure(f"no answer: {type(response.error).__name__}")
            elif is_shed(response.status_code, response.content or b""):
                response.request_meta["name"] = shed_name(model)
                response.failure("503: the model's queue is full")
            elif wrong := complaint(self.contract, payload, response.status_code, response.content or b""):
                response.failure(wrong)
            else:
                response.success()


def user_class(contract: ModelContract, weight: int, pacing: float, seed: int) -> type[ModelUser] | type[ChatUser]:
    """The users of one model.

    Args:
        contract: of the model.
        weight: share of the users when there are several models.
        pacing: seconds from one request of a user to its next; 0 is without a pause.
        seed: of the requests.
    """
    rng, chats = np.random.default_rng(seed), contract.task == "generation"
    attributes = {
        "contract": contract,
        "pool": conversations.draw(contract, rng, POOL) if chats else draw(contract, rng),
        "weight": weight,
        "wait_time": constant_pacing(pacing) if pacing else constant(0),
        "__doc__": f"Asks {contract.name}.",
    }
    return type(f"{contract.name}_users", (ChatUser if chats else ModelUser,), attributes)


def draw(contract: ModelContract, rng: np.random.Generator) -> list[Payload]:
    """Requests for one model: most are valid, some at the edge, some must be refused, and some are the example."""
    counts = {kind: round(POOL * share) for kind, share in SHARES.items()}
    drawn = [example(contract)] * counts["example"]
    drawn += [edge(contract, rng) for _ in range(counts["edge"])]
    drawn += [invalid(contract, rng) for _ in range(counts["invalid"])]
    return drawn + [valid(contract, rng) for _ in range(POOL - len(drawn))]
