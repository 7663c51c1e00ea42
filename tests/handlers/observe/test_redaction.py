"""What identifies people becomes a placeholder, and a redaction that fails tells nothing of the text."""

import time
from pathlib import Path

import pytest

from handlers.observe.redaction import RedactionError, redact, redaction_of


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("write to ann.lee+x@mail.example.co.uk, please", "write to [e-mail], please"),
        ("<a@b.example>", "<[e-mail]>"),
        ("grüße@müller.example", "[e-mail]"),
        ("my card 4111 1111 1111 1111 expires", "my card [card] expires"),
        ("4111-1111-1111-1111", "[card]"),
        ("378282246310005.", "[card]."),
        ("call +49 30 901820 or (030) 90 18 20 11", "call [phone] or [phone]"),
        ("call 555-010-1234 now", "call [phone] now"),
        ("0170 1234567", "[phone]"),
        ("tel:+14155550100", "tel:[phone]"),
    ],
)
def test_what_identifies_people_is_replaced(text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "on 2026-11-30 at 04:50, and on 01.02.2026",
        "1,234,567 people, 3.14159265358979 and 0.123456789012",
        "order 4111 1111 1111 1112 is no card",
        "def f(x): return x @ y  # decorators: @cache",
        "1 2 3 4 5 6 7 8 9 10 11 12",
        "from 1999 to 2024 (1234)",
        "",
    ],
)
def test_other_numbers_and_signs_stay(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("piece", ["a", "1", "0 ", "+1", "a@", "a.", "(0", "4-", "@a.", "555-010-"])
def test_a_long_text_takes_time_in_proportion_to_its_length(piece: str) -> None:
    def seconds(times: int) -> float:
        began = time.process_time()
        redact(piece * times)
        return time.process_time() - began

    seconds(2000)
    assert seconds(80_000) < 60 * max(seconds(8000), 0.005)  # in proportion it is 10 times; by the square 100


def test_a_file_of_the_owner_has_the_function(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("import re\n\n\ndef redact(text):\n    return re.sub('Ann', 'X', text)\n")
    assert redaction_of(str(file))("Ann is a@b.example") == "X is a@b.example"
    assert redaction_of("default") is redact


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        ("def other(text): ...", r"has no function redact\(text\)"),
        ("import nothing_of_it", "cannot be loaded"),
        ("(", "cannot"),
    ],
)
def test_a_file_without_it_is_told_at_the_start(tmp_path: Path, source: str, fault: str) -> None:
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(ValueError, match=fault):
        redaction_of(str(tmp_path / "mine.py"))


def test_a_path_is_absolute_since_workers_have_folders_of_their_own() -> None:
    with pytest.raises(ValueError, match="absolute path"):
        redaction_of("mine.py")


@pytest.mark.parametrize("name", ["missing.py", "mine.txt", "."])
def test_a_file_that_is_none_is_told_at_the_start(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be loaded"):
        redaction_of(str(tmp_path / name))


@pytest.mark.parametrize("body", ["raise ValueError(text)", "return None", "return text.encode()"])
def test_a_redaction_that_fails_quotes_nothing(tmp_path: Path, body: str) -> None:
    (tmp_path / "mine.py").write_text(f"def redact(text):\n    {body}\n")
    with pytest.raises(RedactionError) as caught:
        redaction_of(str(tmp_path / "mine.py"))("secret")
    assert "secret" not in str(caught.value)
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
