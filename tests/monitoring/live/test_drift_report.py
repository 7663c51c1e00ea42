"""The page about one window."""

import re
from dataclasses import replace
from datetime import timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from monitoring.__main__ import app
from monitoring.live.drift_report import render, verdict, write_report
from monitoring.store.database import database_url
from monitoring.store.predictions import open_store
from serving.registry import Registry
from tests.monitoring.live.test_live import keep
from tests.support.documents import replaced
from tests.support.monitoring.drifting import FEWEST, NOW, WINDOW, classification, predictions, regression, rows, weekly
from tests.support.serving.stores import add_contract

AIR, CLOTHES = regression(), classification()


class Page(HTMLParser):
    """What a browser would fetch, and how the elements are nested."""

    VOID = frozenset({"meta", "link", "img", "br", "use", "path", "rect", "line"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.text, self.open, self.fetched, self.headings = text, list[str](), list[str](), list[str]()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in self.VOID:
            self.open.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href") and (value or "")[:1] != "#"]

    def handle_endtag(self, tag: str) -> None:
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] in ("h2", "h3"):
            self.headings.append(data)


def verdicts(page: Page) -> dict[str, str]:
    """The verdict in each row of the table."""
    found = re.findall(r'<tr><th scope="row">(\w+)</th>.*?<td class="left[^"]*">([^<]+)</td></tr>', page.text, re.S)
    return {name: verdict.split(">")[-1] for name, verdict in found}


def test_each_distribution_is_drawn_beside_its_reference_and_judged() -> None:
    labelled = rows(AIR, shares=(0.2, 0.3, 0.5))
    page = Page(render(AIR, predictions(labelled), labelled))
    assert page.open == []
    assert page.headings == ["Tests", "Distributions", "distance", "carrier", "prediction", "error"]
    assert page.text.count("<svg") == 4
    assert page.text.count(">reference<") == page.text.count(">window<") == 4
    assert "<strong>Drift in carrier.</strong>" in page.text
    assert verdicts(page) == {
        "distance": "as usual",
        "carrier": "drift",
        "prediction": "as usual",
        "error": "as usual",
    }


def test_the_page_needs_nothing_but_itself() -> None:
    page = Page(render(CLOTHES, predictions(rows(CLOTHES))))
    assert all(address.startswith("data:") for address in page.fetched)
    assert "<script" not in page.text
    ids = re.findall(r'\bid="([^"]+)"', page.text)
    assert len(set(ids)) == len(ids)


def test_what_cannot_be_judged_says_why() -> None:
    page = Page(render(AIR, predictions(rows(AIR, 10))))
    assert "No verdict: too few rows" in page.text
    assert set(verdicts(page).values()) == {f"none under {FEWEST} rows"}
    assert page.headings == ["Tests", "Distributions", "distance", "carrier", "prediction"]
    small = replaced(AIR, reference={"rows": 3, "output": {"quantiles": [1.0] * 257}})
    page = Page(render(small, predictions(rows(AIR, 10))))
    assert verdicts(page) == {"prediction": "none: the reference is too small"}


def test_errors_that_became_smaller_and_hours_that_lack_are_told() -> None:
    answers = [(one, one.prediction.output) for one in rows(AIR)]
    smaller = [replace(one, label=answer - 0.15 * (answer - float(str(one.label)))) for one, answer in answers]
    page = Page(render(AIR, predictions(smaller), smaller))
    assert verdicts(page)["error"] == "smaller than at training"
    assert "No drift. The errors are smaller than at training." in page.text
    brief = Page(render(weekly(AIR), predictions(rows(AIR, 2500))))
    assert verdicts(brief)["distance"] == "none under 100 rows over 24 hours; they cover 1"


def test_names_are_escaped() -> None:
    reference = {"inputs": {}, "output": {"counts": {"<b>": 1, "coat": 1}}}
    contract = replaced(CLOTHES, labels=("<b>", "coat"), reference=reference)
    assert "<b>" not in render(contract, predictions(rows(CLOTHES, 10)))


def test_the_rows_before_a_moment_are_reported(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'monitor.db'}")
    keep(store, rows(AIR, shift=1))
    path = tmp_path / "new" / "folder" / "page.html"
    assert verdict(write_report(store, AIR, NOW, path)) == "Drift in distance, prediction."
    assert "2013-02-17 11:59:59 UTC" in path.read_text("utf-8")
    before = NOW - timedelta(seconds=WINDOW - FEWEST + 1)
    assert verdict(write_report(store, AIR, before, path)).startswith("No verdict")
    assert "2013-02-17 11:44:58 UTC" in path.read_text("utf-8")
    store.close()


def test_the_command_writes_the_page_of_the_champion_and_says_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DATABASE_URL", raising=False)
    monkeypatch.setenv("MARLOOP_MODEL_STORE", str(tmp_path / "models"))
    monkeypatch.setenv("MARLOOP_RUN_DIR", str(tmp_path / "run"))
    add_contract(Registry(tmp_path / "models"), AIR)
    store = open_store(database_url({}, tmp_path / "run"))
    keep(store, rows(AIR, shift=1))
    store.close()
    done = CliRunner().invoke(app, ["drift-report", "air", "--until", "2013-02-17T12:00:00"])
    assert done.exit_code == 0, done.output
    page = tmp_path / "run" / "reports" / "air-drift.html"
    assert done.output == f"Drift in distance, prediction. Written: {page}\n"
    assert "air 1.0: drift" in page.read_text("utf-8")
    refused = CliRunner().invoke(app, ["drift-report", "shoes"])
    assert refused.exit_code == 1
    assert "shoes has no champion" in refused.output
