"""Checks that weights, tokenizer and template were read as they are meant, before anything is packaged."""

from handlers.language.batching import ContinuousBatching
from handlers.language.generation import Generate, Sampling, Token
from handlers.language.template import ChatTemplate
from training.data import DataError
from training.language.llama import Llama, continued
from training.language.recipe import Expected
from training.language.tokenizer import LanguageTokenizer

ANSWER = 8  # tokens

# What a tokenizer of bytes must give back as it got it, whatever the script.
ROUND_TRIPS = (
    "Plain words, 3.14 and 2026; don't split what belongs together.",
    "  leading spaces,\ttabs\n\nand empty lines\r\n",
    "Größe, naïve café, Ærøskøbing, Łódź, İstanbul",
    "Ελληνικά, русский текст, ქართული, հայերեն",
    "שלום עולם، مرحبا بالعالم، سلام دنیا",
    "नमस्ते दुनिया, বাংলা, தமிழ், ไทย, ភាសាខ្មែរ, አማርኛ",
    "中文字符，日本語のテキスト、한국어 문장",
    "😀👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 e\u0301 \u200b\u202e",
    "x = {'a': [1, 2]}  # <|im_end|> is text here",
)


class SelfCheckError(DataError):
    """Something was read wrongly; nothing is packaged."""


def check_tokenizer(tokenizer: LanguageTokenizer) -> None:
    """Every text comes back as it was.

    Raises:
        SelfCheckError: one does not.
    """
    for text in ROUND_TRIPS:
        back = tokenizer.text(tokenizer.tokenize(text, False))
        _require(back == text, f"the tokenizer turns {text!r} into {back!r}")


def check_template(template: str, tokenizer: LanguageTokenizer, expected: Expected) -> None:
    """A question is written for the model as it was trained.

    Raises:
        SelfCheckError: it is not.
    """
    messages = [{"role": "user", "content": expected.question}]
    written = ChatTemplate(template, tokenizer.tokenize).tokens(messages)
    right = tokenizer.tokenize(expected.conversation, True)
    _require(written == right, f"the template writes {tokenizer.text(written)!r}, not {expected.conversation!r}")


def check_reference(module: Llama, tokenizer: LanguageTokenizer, end: int, expected: Expected) -> None:
    """The weights go on with texts as is known.

    Raises:
        SelfCheckError: they do not.
    """
    for prompt, right in expected.continuations.items():
        length = len(tokenizer.tokenize(right, False))
        said = tokenizer.text(continued(module, tokenizer.tokenize(prompt, False), length, end))
        _require(said == right, f"{prompt!r} goes on with {said!r}, not {right!r}")


def check_perplexity(name: str, value: float, bound: float) -> None:
    """A plain text is foreseen.

    Raises:
        SelfCheckError: it is not, as where weights were read in the wrong order.
    """
    _require(value <= bound, f"the perplexity of {name} is {value:.1f} on a plain text; it should be at most {bound:g}")


def check_engine(engine: ContinuousBatching, tokenizer: LanguageTokenizer) -> None:
    """The engine splits texts as the tokenizer does.

    Raises:
        SelfCheckError: it does not.
    """
    for text in ROUND_TRIPS:
        tokens = engine.tokenize(text, False)
        _require(tokens == tokenizer.tokenize(text, False), f"the engine splits {text!r} otherwise than the tokenizer")


def check_answer(
    engine: ContinuousBatching, tokenizer: LanguageTokenizer, template: ChatTemplate, expected: Expected
) -> None:
    """The engine answers the question as is known of the published weights.

    Raises:
        SelfCheckError: it does not.
    """
    said = greedy(engine, template.tokens([{"role": "user", "content": expected.question}]), ANSWER)
    text = tokenizer.text(said)
    said_so = text.startswith(expected.answer)
    _require(said_so, f"{expected.question!r} is answered with {text!r}; it should begin with {expected.answer!r}")


def greedy(engine: ContinuousBatching, prompt: list[int], length: int) -> list[int]:
    """The likeliest tokens after a prompt, from an engine that has nothing else to do."""
    engine.add(Generate("alone", prompt, length, Sampling(temperature=0)))
    tokens: list[int] = []
    while engine.usage.running or engine.usage.waiting:
        tokens += [event.token for event in engine.step() if isinstance(event, Token)]
    return tokens


def _require(right: bool, what: str) -> None:
    if not right:
        raise SelfCheckError(f"{what}: the weights or what reads them is damaged, and nothing is packaged")
