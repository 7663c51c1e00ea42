"""Checks that weights, tokenizer and template were read as they are meant, before anything is packaged."""

from handlers.language.generation import Generate, Sampling, Token
from handlers.language.scheduling.batching import ContinuousBatching
from handlers.language.template import ChatTemplate
from training.data import DataError
from training.language.llama import Llama, continue_prompt
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
    """Weights, tokenizer or template were read wrongly; nothing is packaged."""


def check_tokenizer(tokenizer: LanguageTokenizer) -> None:
    """Check that each text comes back as it was.

    Raises:
        SelfCheckError: a text does not.
    """
    for text in ROUND_TRIPS:
        decoded = tokenizer.text(tokenizer.tokenize(text, False))
        _require(decoded == text, f"the tokenizer turns {text!r} into {decoded!r}")


def check_template(template: str, tokenizer: LanguageTokenizer, expected: Expected) -> None:
    """Check that the template renders the question as the model was trained on it.

    Raises:
        SelfCheckError: it does not.
    """
    messages = [{"role": "user", "content": expected.question}]
    tokens = ChatTemplate(template, tokenizer.tokenize).tokens(messages)
    text = tokenizer.text(tokens)
    agrees = tokens == tokenizer.tokenize(expected.conversation, True)
    _require(agrees, f"the template writes {text!r}, not {expected.conversation!r}")


def check_reference(module: Llama, tokenizer: LanguageTokenizer, end: int, expected: Expected) -> None:
    """Check that the weights continue prompts as the published model does.

    Raises:
        SelfCheckError: they do not.
    """
    for prompt, continuation in expected.continuations.items():
        length = len(tokenizer.tokenize(continuation, False))
        text = tokenizer.text(continue_prompt(module, tokenizer.tokenize(prompt, False), length, end))
        _require(text == continuation, f"{prompt!r} goes on with {text!r}, not {continuation!r}")


def check_perplexity(name: str, value: float, bound: float) -> None:
    """Check that the perplexity of a plain text is at most ``bound``.

    Raises:
        SelfCheckError: it is above, as where weights were read in the wrong order.
    """
    _require(value <= bound, f"the perplexity of {name} is {value:.1f} on a plain text; it should be at most {bound:g}")


def check_engine(engine: ContinuousBatching, tokenizer: LanguageTokenizer) -> None:
    """Check that the engine splits texts as the tokenizer does.

    Raises:
        SelfCheckError: it does not.
    """
    for text in ROUND_TRIPS:
        tokens = engine.tokenize(text, False)
        _require(tokens == tokenizer.tokenize(text, False), f"the engine splits {text!r} otherwise than the tokenizer")


def check_answer(
    engine: ContinuousBatching, tokenizer: LanguageTokenizer, template: ChatTemplate, expected: Expected
) -> None:
    """Check that the engine answers the question as the published model does.

    Raises:
        SelfCheckError: it does not.
    """
    prompt = template.tokens([{"role": "user", "content": expected.question}])
    text = tokenizer.text(greedy(engine, prompt, ANSWER))
    agrees = text.startswith(expected.answer)
    _require(agrees, f"{expected.question!r} is answered with {text!r}; it should begin with {expected.answer!r}")


def greedy(engine: ContinuousBatching, prompt: list[int], length: int) -> list[int]:
    """Return the likeliest tokens after a prompt, from an engine that has nothing else to do."""
    engine.add(Generate("alone", prompt, length, Sampling(temperature=0)))
    tokens: list[int] = []
    while engine.usage.running or engine.usage.waiting:
        tokens += [event.token for event in engine.step() if isinstance(event, Token)]
    return tokens


def _require(agrees: bool, fault: str) -> None:
    if not agrees:
        raise SelfCheckError(f"{fault}: the weights or what reads them is damaged, and nothing is packaged")
