"""Prompts of exact lengths that have no beginning in common, so that no cache knows one from another."""

import random
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass

from handlers.language.scheduling.batching import ContinuousBatching
from loadtests.bench.language.in_process import generate

SEED = 20241031
LENGTH = 128  # tokens of a prompt
NEW = 64  # tokens of an answer
LONG = 1000  # tokens of the prompt that others must not wait for
SYSTEM = 512  # tokens of a system prompt
LONGEST, SHORTEST = 1900, 32  # tokens of a prompt that is read, and of one that comes meanwhile
# Each begins one prompt only.
OPENINGS = (
    "Yesterday", "Every", "When", "My", "Before", "After", "Although", "During", "Nobody", "Some", "Two", "Three",
    "Because", "Early", "Late", "Once", "Until", "While", "Our", "Their", "His", "Her", "Most", "Many", "Since",
    "Under", "Across", "Between", "Behind", "Through", "Inside", "Four", "Five", "Seven", "Nine", "Twelve",
)  # fmt: skip
SENTENCES = (
    "the ferry left the harbour before the fog had lifted from the water",
    "a teacher from the valley collected old maps and hung them in the library",
    "the baker on the corner gave the first loaf of the day to whoever asked for it",
    "children built a small bridge of stones over the stream behind the school",
    "an engineer measured the height of the river and wrote it down in a green book",
    "the market was full of apples, cheese, honey and bread from the farms nearby",
    "a letter arrived that had been sent from the other side of the world",
    "the old clock in the tower stopped and nobody in the town noticed it for a week",
    "two brothers repaired a bicycle and rode it along the coast to the lighthouse",
    "the weather turned cold and snow covered the roofs and the gardens",
    "a musician played the violin under the trees until the lamps were lit",
    "the museum opened a new room with paintings of ships and storms",
    "a doctor walked from village to village with a dog and a leather bag",
    "farmers talked about the rain that had not come since the spring",
    "the train to the mountains was late again, so the travellers drank tea and waited",
    "a young woman learned to build boats from her grandfather",
    "the council decided to plant a hundred trees along the main road",
    "someone left a basket of eggs at the door of the post office",
    "a team of scientists studied how birds find their way in the dark",
    "the river carried leaves and branches down to the mill",
    "a fisherman told the story of the largest fish that he had ever seen",
    "the shop sold paper, ink, buttons and all kinds of thread",
    "people came from far away to see the bridge and to write about it",
    "the winter festival began with a song that everybody knew",
)


@dataclass(frozen=True)
class Prompts:
    """The prompts of a turn; no two begin with the same token.

    Attributes:
        warm_up: prompts that are sent before anything is measured.
        alone: prompts that are sent one at a time.
        together: prompts that are sent at once.
        systems: system prompts of ``SYSTEM`` tokens.
        long: prompts of ``LONG`` tokens, one for each measurement.
        longest: prompts of ``LONGEST`` tokens.
        shortest: pairs of prompts of ``SHORTEST`` tokens, as many as the longest.
        expected: answers to ``alone`` and ``together`` by prompt.
    """

    warm_up: list[str]
    alone: list[str]
    together: list[str]
    systems: list[str]
    long: list[str]
    longest: list[str]
    shortest: list[tuple[str, str]]
    expected: dict[str, str]


def passages(engine: ContinuousBatching, seed: int = SEED) -> Iterator[tuple[str, random.Random]]:
    """Yield openings, each with a generator of random numbers; no two begin with the same token."""
    used: set[int] = set()
    for opening in OPENINGS:
        token = engine.tokenize(opening, False)[0]
        if token not in used:
            used.add(token)
            yield opening, random.Random(f"{seed} {opening}")


def passage(engine: ContinuousBatching, opening: str, generator: random.Random, length: int) -> str:
    """Compose a text of exactly ``length`` tokens."""
    while True:
        words = [opening]
        while len(words) < length:
            words += f"{generator.choice(SENTENCES)}. {generator.choice(OPENINGS)}".split()
        texts = [" ".join(words[:count]) for count in range(1, len(words) + 1)]
        place = bisect_left(texts, length, key=lambda text: len(engine.tokenize(text, False)))
        # A word may have several tokens, so that no text may have this length: then others are drawn.
        if len(engine.tokenize(texts[place], False)) == length:
            return texts[place]


def draw_prompts(engine: ContinuousBatching, alone: int, together: int, long: int) -> Prompts:
    """Draw the prompts, and let the engine answer the measured ones, each alone.

    A prompt whose answer ends early, or has a character of several tokens, is skipped: all must have ``NEW`` tokens
    that a stream tells apart.

    Args:
        engine: the model's, new to all prompts.
        alone: number of prompts that are sent one at a time; likewise ``together`` at once.
        long: number of long prompts.
    """
    openings = passages(engine)

    def some(count: int, length: int) -> list[str]:
        return [passage(engine, *next(openings), length) for _ in range(count)]

    warm_up, systems, long_ones = some(together, LENGTH), some(alone, SYSTEM), some(long, LONG)
    numbered = iter((str(number), random.Random(f"{SEED} {number}")) for number in range(1, 3 * alone + 1))
    longest = [passage(engine, *next(numbered), LONGEST) for _ in range(alone)]
    short = [passage(engine, *one, SHORTEST) for one in numbered]
    expected: dict[str, str] = {}
    while len(expected) < alone + together:
        (text,) = some(1, LENGTH)
        (answer,) = generate(engine, [text], NEW)
        if len(answer.times) == NEW and answer.text.isascii():
            expected[text] = answer.text
    chosen = list(expected)
    shortest = list(zip(short[::2], short[1::2], strict=True))
    return Prompts(warm_up, chosen[:alone], chosen[alone:], systems, long_ones, longest, shortest, expected)
