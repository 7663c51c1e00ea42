"""Redaction: placeholders in the place of what identifies people, before a conversation leaves its worker."""

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path

Redact = Callable[[str], str]
DEFAULT = "default"
FUNCTION = "redact"
E_MAIL, CARD, PHONE = "[e-mail]", "[card]", "[phone]"
# Each part is bounded, so that a text takes time in proportion to its length.
_E_MAIL = re.compile(r"[\w.%+-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63}){1,8}")
_CARD = re.compile(r"(?<!\d)\d(?:[ -]?\d){12,18}(?!\d)")  # ISO/IEC 7812-1: up to 19 digits
_PHONE = re.compile(
    r"(?<![\w.,])(?:\+(?=\d)|\((?=\d)|0(?=\d)|(?=\d{3}[-. ]\d{3}[-. ]\d{4}(?!\d)))[\d() ./-]{5,30}\d(?!\w)"
)
_FEWEST_DIGITS = 9  # of a phone number without its country: a date has eight
_FEWEST_WITH_COUNTRY = 7  # E.164 has 15 at most


class RedactionError(Exception):
    """A text could not be redacted, so it must not be kept; the message quotes nothing of it."""


def redact(text: str) -> str:
    """Replace e-mail addresses, numbers of cards and phone numbers by ``[e-mail]``, ``[card]`` and ``[phone]``.

    A card's number passes Luhn's check (ISO/IEC 7812-1). A phone number begins with ``+``, ``0`` or a bracket, or is
    written as 555-010-1234. Names and addresses of houses are left: no pattern finds them.
    """
    text = _E_MAIL.sub(E_MAIL, text)
    text = _CARD.sub(lambda match: CARD if _passes_luhn(match[0]) else match[0], text)
    return _PHONE.sub(lambda match: PHONE if _is_phone(match[0]) else match[0], text)


def redaction_of(setting: str) -> Redact:
    """Return the function that a setting names.

    Args:
        setting: ``default`` for ``redact``, else the absolute path of a file of Python with a function ``redact(text)``
            that returns a text.

    Raises:
        ValueError: the file cannot be loaded, or has no such function.
    """
    if setting == DEFAULT:
        return redact
    path = Path(setting)
    if not path.is_absolute():  # workers have folders of their own
        raise ValueError(
            f"the redaction is {setting!r}; it must be {DEFAULT}, or the absolute path of a file of Python"
        )
    try:
        spec = importlib.util.spec_from_file_location("marloop_redaction", path)
        if spec is None or spec.loader is None:
            raise ImportError("it is no file of Python")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except Exception as error:
        fault = f"{type(error).__name__}: {error}"
        raise ValueError(f"the file of redaction {path} cannot be loaded: {fault}") from error
    function = getattr(module, FUNCTION, None)
    if not callable(function):
        raise ValueError(f"the file of redaction {path} has no function {FUNCTION}(text)")
    return _checked(function)


def _checked(function: Callable[[str], object]) -> Redact:
    """Return a function of an owner whose failures tell nothing of the text."""

    def redact_checked(text: str) -> str:
        try:
            redacted = function(text)
        except Exception as error:  # whose message may quote the text
            raise RedactionError(f"the redaction failed with {type(error).__name__}") from None
        if not isinstance(redacted, str):
            raise RedactionError(f"the redaction returned {type(redacted).__name__}, not a text")
        return redacted

    return redact_checked


def _passes_luhn(number: str) -> bool:
    digits = [int(digit) for digit in reversed(number) if digit.isdigit()]
    doubled = [sum(divmod(2 * digit, 10)) for digit in digits[1::2]]
    return (sum(digits[::2]) + sum(doubled)) % 10 == 0


def _is_phone(number: str) -> bool:
    digits = sum(character.isdigit() for character in number)
    return digits >= (_FEWEST_WITH_COUNTRY if number.startswith("+") else _FEWEST_DIGITS)
