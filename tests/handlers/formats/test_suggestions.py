"""Which known name a mistaken one is taken for."""

import time

import pytest

from handlers.formats.suggestions import closest_names

CARRIERS = ("9E", "AA", "AS", "B6", "DL", "EV", "F9", "FL", "HA", "MQ", "OO", "UA", "US", "VX", "WN", "YV")


@pytest.mark.parametrize(
    ("name", "known", "first"),
    [
        ("ua", CARRIERS, "UA"),
        (" UA\n", CARRIERS, "UA"),
        ("u a", CARRIERS, "UA"),
        ("ＵＡ", CARRIERS, "UA"),
        ("zurich", ("Munich", "Zürich", "Zurzach"), "Zürich"),
        ("STRASSE", ("Strauss", "straße"), "straße"),
        ("new york", ("Newark", "NewYork", "NEW YORK"), "NEW YORK"),
        ("newyork", ("New York", "Néw York", "York"), "New York"),
        ("ankle-boot", ("Bag", "Boot", "Ankle boot"), "Ankle boot"),
        ("IAHH", ("ATL", "IAD", "IAH"), "IAH"),
        ("", ("a", "b"), "a"),
    ],
)
def test_case_counts_least_then_whitespace_then_accents_then_letters(
    name: str, known: tuple[str, ...], first: str
) -> None:
    assert closest_names(name, known)[0] == first


def test_there_are_three_or_all() -> None:
    assert len(closest_names("ua", CARRIERS)) == 3
    assert sorted(closest_names("ua", ("b", "a"))) == ["a", "b"]


def test_a_megabyte_is_compared_quickly() -> None:
    started = time.process_time()
    closest_names("A" * 1_000_000, CARRIERS)
    assert time.process_time() - started < 1
