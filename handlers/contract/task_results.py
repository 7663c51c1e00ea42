"""What the evaluation of a language model holds beside its perplexity: scores of tasks, and answers that must stay."""

from typing import Any

import msgspec


class TaskScore(msgspec.Struct, frozen=True):
    """A metric and its standard error over the documents; None where there is a single one."""

    value: int | float | None
    stderr: int | float | None


class TaskResult(msgspec.Struct, frozen=True, omit_defaults=True):
    """One metric of one task of lm-eval.

    Attributes:
        rows: number of documents.
        scores: by model: ``served`` as the engine computes it, ``float32`` the network with the published weights,
            ``tuned`` the network after fine-tuning, and ``champion`` the one that was served before.
        sha256: of the files that the task was read from.
    """

    task: str
    metric: str
    rows: int
    higher_is_better: bool = True
    scores: dict[str, TaskScore] = {}
    sha256: str = ""


class RegressionPrompt(msgspec.Struct, frozen=True, omit_defaults=True):
    """A prompt whose greedy answer must stay.

    Attributes:
        request: in the native form, or a body of a chat completion.
        matches: a regular expression that is found in a right answer; empty where the answer must stay as it is.
        answer: this version's.
    """

    request: dict[str, Any]
    matches: str = ""
    answer: str = ""
