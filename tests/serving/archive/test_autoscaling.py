"""Numbers of replicas in an archive's settings: read, changed, and refused by name."""

from typing import Any

import pytest

from serving.archive.autoscaling import Autoscaling, autoscaling_of, with_autoscaling

NUMBERS = {"min_replicas": 1, "max_replicas": 4, "target_ongoing_requests": 8.0, "downscale_delay_s": 60}


def test_what_an_archive_names_is_read_and_nothing_is_made_up() -> None:
    assert autoscaling_of({"batchSize": 8, "autoscaling": NUMBERS}).autoscaling == NUMBERS
    assert autoscaling_of({"batchSize": 8}) == autoscaling_of({"autoscaling": None}) == Autoscaling()


def test_a_change_keeps_the_other_numbers_and_no_empty_section_is_written() -> None:
    config = with_autoscaling({"batchSize": 8, "autoscaling": NUMBERS}, {"max_replicas": 6})
    assert config == {"batchSize": 8, "autoscaling": NUMBERS | {"max_replicas": 6}}
    assert with_autoscaling({"batchSize": 8}, {}) == {"batchSize": 8}
    assert with_autoscaling(config, dict.fromkeys(NUMBERS)) == {"batchSize": 8}


@pytest.mark.parametrize(
    ("section", "fault"),
    [
        ({"min_replicas": 0}, r"autoscaling\.min_replicas is 0; it must be at least 1 and at most 10,000"),
        ({"max_replicas": 10**9}, r"autoscaling\.max_replicas is 1000000000; it must be at least 1 and at most"),
        ({"min_replicas": True}, r"autoscaling\.min_replicas is True; it must be a whole number"),
        ({"max_replicas": 2.5}, r"autoscaling\.max_replicas is 2\.5; it must be a whole number"),
        ({"target_ongoing_requests": "8"}, r"autoscaling\.target_ongoing_requests is '8'; it must be a number"),
        ({"target_ongoing_requests": float("nan")}, r"autoscaling\.target_ongoing_requests is nan; it must be at"),
        ({"upscale_delay_s": -1}, r"autoscaling\.upscale_delay_s is -1; it must be at least 0"),
        ({"min_replicas": 3, "max_replicas": 2}, r"max_replicas is 2; it must be at least 3, which is min_replicas"),
        ({"minReplicas": 3, 7: 1}, r"autoscaling has 7, minReplicas; it may have min_replicas, max_replicas, "),
        ([1], r"autoscaling is a list; it must be a mapping"),
    ],
)
def test_what_cannot_be_is_refused_by_its_name(section: Any, fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        autoscaling_of({"autoscaling": section})
