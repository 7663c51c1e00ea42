"""A job's log, read as it grows."""

from pathlib import Path

from monitoring.console.log import read_piece


def test_a_log_that_is_not_there_is_empty(tmp_path: Path) -> None:
    for path in ("", str(tmp_path / "none"), str(tmp_path)):
        assert read_piece(path, None, ended=False).text == ""


def test_a_log_goes_on_where_it_was_and_a_line_waits_until_it_is_whole(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("one\ntwo")
    first = read_piece(str(log), None, ended=False)
    assert (first.text, first.offset, first.skipped) == ("one\n", 4, False)
    log.write_text("one\ntwo, größer\n\x1b[31mthree\x1b[0m")
    second = read_piece(str(log), first.offset, ended=False)
    assert second.text == "two, größer\n"
    assert read_piece(str(log), second.offset, ended=True).text == "three"


def test_of_a_long_log_the_end_is_shown_and_once_it_has_ended_nothing_is_left_out(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("".join(f"line {i}\n" for i in range(20_000)))
    found = read_piece(str(log), None, ended=True)
    assert found.skipped
    assert found.text.startswith("line ")
    assert found.text.endswith("\nline 19999\n")
    rest = read_piece(str(log), 0, ended=True)
    assert (len(rest.text), rest.skipped) == (log.stat().st_size, False)
