"""How much of a prompt a step reads: what its streams bear."""

from handlers.language.scheduling.chunks import OWN_PASS, Beside, Chunks

BATCH, LONE, BACKLOG = 512, 64, 128


def size(beside: Beside, position: int, streams: int, waiting: bool = False) -> int:
    return Chunks(BATCH, beside, LONE, BACKLOG).sizes({0: 2000}, {0: position}, streams, waiting)[0]


def test_each_stream_bears_some_tokens_and_half_as_many_late_in_the_prompt() -> None:
    beside = Beside(6, 1000)
    assert [size(beside, 0, streams) for streams in (1, 4, 7)] == [5, 23, 41]
    assert [size(beside, 1000, streams) for streams in (1, 4, 7)] == [2, 11, 20]


def test_the_prompt_always_goes_on_by_as_much_as_costs_hardly_anything() -> None:
    assert [size(OWN_PASS, position, 1) for position in (0, 500, 5000)] == [1, 1, 1]
    assert [size(Beside(4, 1500, 3), position, 1) for position in (0, 500, 5000)] == [3, 3, 3]


def test_without_streams_or_with_a_queue_more_is_read_than_that() -> None:
    assert size(OWN_PASS, 0, 0) == LONE
    assert size(OWN_PASS, 0, 1, waiting=True) == BACKLOG
    assert size(Beside(200, 1000), 0, 7) == BATCH - 7
