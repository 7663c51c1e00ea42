"""What speculative decoding is worth: tokens a second of the engine in process, with drafts and without, in turn.

An edited program repeats most of what its prompt shows. A free text, sampled, repeats little: it must lose nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from handlers.language.generation import Sampling
from handlers.language.scheduling.batching import ContinuousBatching
from loadtests.bench.language.answers import Answer
from loadtests.bench.language.in_process import generate
from loadtests.bench.results import Spread, ratio, spread

NEW = 120  # most tokens of an answer
DRAFTS = 3  # OpenVINO computes four tokens in 1.3 times the processor time of one, five in 1.95 times
WITHOUT, WITH = "without", "with"
_PROGRAMS = (
    '''def total_price(items, tax_rate):
    """Return the price of all items with tax."""
    total = 0
    for item in items:
        price = item["price"] * item["count"]
        if item.get("discount"):
            price = price * (1 - item["discount"])
        total = total + price
    return total * (1 + tax_rate)
''',
    '''class Harbour:
    """Ships that lie in a harbour, by their berth."""

    def __init__(self, berths):
        self.berths = berths
        self.ships = {}

    def moor(self, ship, berth):
        if berth not in self.berths:
            raise ValueError("there is no such berth")
        if berth in self.ships:
            raise ValueError("the berth is taken")
        self.ships[berth] = ship

    def leave(self, berth):
        return self.ships.pop(berth, None)
''',
    '''def read_rows(path, separator=","):
    """Read a table and return a list of rows, each by the names of its columns."""
    rows = []
    with open(path) as file:
        names = file.readline().strip().split(separator)
        for line in file:
            values = line.strip().split(separator)
            if len(values) != len(names):
                raise ValueError("a row has another length than the header")
            rows.append(dict(zip(names, values)))
    return rows
''',
)
_EDITS = (
    ("total", "amount"),
    ("ships", "boats"),
    ("rows", "records"),
)
_OPENINGS = (
    "Once upon a time, in a village by the sea, there lived",
    "The three reasons why people learn languages are",
    "My favourite season is autumn because",
)


@dataclass(frozen=True)
class Kind:
    """Prompts that are answered one after the other."""

    title: str
    prompts: Sequence[str]
    sampling: Sampling


def _edit(number: int, done: bool) -> str:
    """Return a program and what is to be renamed in it; with the edited program, as an example of an edit."""
    program, (old, new) = _PROGRAMS[number], _EDITS[number]
    asked = f"Program:\n```python\n{program}```\nRename `{old}` to `{new}`:\n```python\n"
    return f"{asked}{program.replace(old, new)}```\n\n" if done else asked


KINDS = (
    Kind(
        "an edited program, greedy",
        [_edit(number - 1, done=True) + _edit(number, done=False) for number in range(len(_PROGRAMS))],
        Sampling(temperature=0),
    ),
    Kind("free text, temperature 1", _OPENINGS, Sampling(temperature=1, seed=1)),
    Kind("free text, greedy", _OPENINGS, Sampling(temperature=0)),
)


@dataclass(frozen=True)
class Gain:
    """Tokens a second of a kind of text after each answer's first, and their ratio, each over the rounds.

    Attributes:
        equal: whether all answers were the same with drafts and without.
    """

    title: str
    without: Spread
    speculative: Spread
    gain: Spread
    equal: bool


def measure(engines: Mapping[str, ContinuousBatching], rounds: int, say: Callable[[str], None]) -> list[Gain]:
    """Let both engines answer all prompts in each round, after one that does not count.

    Args:
        engines: ``WITHOUT`` and ``WITH``, of the same model.
        rounds: at least one.
    """
    rates: dict[str, dict[str, dict[int, float]]] = {kind.title: {WITHOUT: {}, WITH: {}} for kind in KINDS}
    equal = {kind.title: True for kind in KINDS}
    for number in range(rounds + 1):
        for kind in KINDS:
            texts: dict[str, list[str]] = {}
            for name in (WITHOUT, WITH) if number % 2 else (WITH, WITHOUT):  # neither is always the first
                answers = [generate(engines[name], [prompt], NEW, kind.sampling)[0] for prompt in kind.prompts]
                texts[name] = [answer.text for answer in answers]
                if number:
                    rates[kind.title][name][number] = rate(answers)
            equal[kind.title] &= texts[WITHOUT] == texts[WITH]
        say(f"round {number} of {rounds}" if number else "warm")
    return [_gain(title, measured, equal[title]) for title, measured in rates.items()]


def rate(answers: Sequence[Answer]) -> float:
    """Return tokens a second of answers one after the other, each from its first token on.

    Raises:
        ValueError: no answer has a second token.
    """
    seconds = sum(answer.times[-1] - answer.times[0] for answer in answers if answer.times)
    if not seconds:
        raise ValueError("no answer has a second token: there is nothing to measure")
    return sum(len(answer.times) - 1 for answer in answers if answer.times) / seconds


def table(gains: Sequence[Gain]) -> str:
    """Return the gains as a table of Markdown."""
    rows = [
        f"| {gain.title} | {_words(gain.without, 0)} | {_words(gain.speculative, 0)} | {_words(gain.gain, 2)} × "
        f"| {'yes' if gain.equal else '**no**'} |"
        for gain in gains
    ]
    head = "| text | without drafts, tok/s | with, tok/s | gain | same answers |\n| --- | --- | --- | --- | --- |"
    return "\n".join([head, *rows])


def _gain(title: str, rates: Mapping[str, Mapping[int, float]], equal: bool) -> Gain:
    without, speculative = spread(rates[WITHOUT], float), spread(rates[WITH], float)
    gain = ratio(rates[WITH], rates[WITHOUT], float)
    if not (without and speculative and gain):
        raise ValueError("there was no round; at least one is needed")
    return Gain(title, without, speculative, gain, equal)


def _words(value: Spread, digits: int) -> str:
    return f"{value.median:.{digits}f} ({value.low:.{digits}f}–{value.high:.{digits}f})"
