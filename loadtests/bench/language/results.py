"""The results of a run, as JSON."""

from typing import Any

import msgspec

from handlers.contract.model_card import Evaluation
from loadtests.bench.results import Run

# Names of the figures of a turn: rates in tokens a second, times in seconds, shares from 0 to 1.
ALONE, ALONE_END_TO_END, FIRST = "alone", "alone, end to end", "first token, alone"
DECODING, END_TO_END = "together, decoding", "together, end to end"
EARLIEST, LATEST = "first token, the first of all", "first token, the last of all"
SAME_ALONE, SAME, AGREES = "same text, alone", "same text, together", "agreeing part of the text"
COLD, WARM_SYSTEM, WARM_TURNS = "first token, cold", "first token, known system prompt", "first token, known turns"
IDLE_GAP, BUSY_GAP = "gap beside {}, idle", "gap beside {}, p95 during a long prompt"
LATE = "first token of a long prompt beside {}"
NEWCOMER_ALONE, NEWCOMER = "first token of a short prompt, alone", "first token of a short prompt, beside a long one"
BANDWIDTH = "read bandwidth"
OURS, DIRECT, IN_PROCESS, TRANSFORMERS = "marloop", "marloop-direct", "in-process", "transformers"
LLAMA_SERVER, LLAMA_TUNED = "llama-cpp-python", "llama-cpp-python-tuned"
MACHINE = "machine"
# Packages whose versions are recorded.
NAMED = {"torch", "transformers", "llama_cpp_python", "openvino-genai", "torchserve", "uvicorn", "fastapi"}
BESIDE = (1, 4, 7)  # streams that run when a long prompt comes
TOGETHER = 8


class Sample(msgspec.Struct, frozen=True):
    """A figure of one turn."""

    round: int
    contender: str
    figure: str
    value: float


class Results(Run, kw_only=True):
    """The results of a run.

    Attributes:
        rounds: number of rounds; every contender has a turn in each.
        weights: bytes of the model's file, all of which each token needs.
        settings: ``model-config.yaml`` of the model.
        evaluation: from its contract.
    """

    rounds: int
    weights: int
    settings: dict[str, Any]
    evaluation: Evaluation
    samples: list[Sample] = []

    def values(self, contender: str, figure: str) -> dict[int, float]:
        """Return a figure by round."""
        return {s.round: s.value for s in self.samples if (s.contender, s.figure) == (contender, figure)}
