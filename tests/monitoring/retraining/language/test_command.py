"""What ``marloop conversations`` shows, decides and writes."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from monitoring.__main__ import app
from monitoring.store.predictions import Store, open_store
from monitoring.store.records import Feedback
from tests.support.monitoring.conversations import conversation
from tests.support.monitoring.worlds import NOW
from training.language.instructions import read_conversations


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    monkeypatch.setenv("DATABASE_URL", url := f"sqlite:///{tmp_path / 'monitor.db'}")
    return open_store(url)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["conversations", *map(str, arguments)])


def names(*arguments: object) -> list[str]:
    return [one["name"] for one in json.loads(run("list", "chat", "--json", *arguments).stdout)]


def test_conversations_are_listed_approved_and_rejected(store: Store) -> None:
    store.add_predictions([conversation(name, hours=i) for i, name in enumerate("abc")])
    assert names() == ["c/0", "b/0", "a/0"]
    assert "approved: 2" in run("approve", "chat", "a", "b/0").stdout
    assert "rejected: 1" in run("reject", "chat", "b/0").stdout
    assert [names("--review", review) for review in ("approved", "rejected", "new")] == [["a/0"], ["b/0"], ["c/0"]]
    assert names("--limit", 1) == ["c/0"]
    assert "removed: 1" in run("remove", "chat", "chatcmpl-c").stdout
    assert names() == ["b/0", "a/0"]


def test_the_list_shows_what_a_person_decides_by_and_no_control_characters(store: Store) -> None:
    store.add_predictions([conversation("a", asked="Who?\x1b[2J", said="Nobody" * 100, reason="length")])
    store.add_feedback([Feedback("a", 0, {"thumb": "down", "answer": "A fox."}, NOW, "chat")])
    shown = run("list", "chat").stdout
    assert "a/0" in shown
    assert "new, down, cut off" in shown
    assert "better: A fox." in shown
    assert "asked: Who?�[2J" in shown
    assert "\x1b" not in shown
    assert "Nobody" * 51 not in shown


def test_a_name_that_is_none_changes_nothing(store: Store) -> None:
    store.add_predictions([conversation("a")])
    refused = run("approve", "chat", "a", "nobody")
    assert refused.exit_code == 1
    assert "no conversation nobody/0 of chat is captured" in refused.output
    assert names("--review", "approved") == []


def test_the_export_keeps_what_is_held_out_apart_and_training_reads_it(store: Store, tmp_path: Path) -> None:
    many = [conversation(f"a{i}", asked=f"Question {i % 40}?", hours=i) for i in range(80)]
    store.add_predictions([*many, conversation("other")])
    run("approve", "chat", *[one.request_id for one in many])
    files = tmp_path / "learned.jsonl", tmp_path / "held_out.jsonl"
    assert run("export", "chat", *files).exit_code == 0
    learned, held_out = ([talk[0]["content"] for talk in read_conversations(file)] for file in files)
    assert len(learned) + len(held_out) == 80
    assert not set(learned) & set(held_out)
    assert [oct(file.stat().st_mode & 0o777) for file in files] == ["0o600", "0o600"]
    store.add_predictions([conversation("late", asked=f"{held_out[0]} ", hours=99)])
    run("approve", "chat", "late")
    run("export", "chat", *files)
    assert f"{held_out[0]} " in files[1].read_text()


def test_a_database_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "monitor.db").write_bytes(b"no database" * 1000)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path / 'monitor.db'}")
    failed = run("list", "chat")
    assert failed.exit_code == 1
    assert "is damaged" in failed.output
