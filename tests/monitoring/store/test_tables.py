"""What the monitor keeps as JSON is the same when it is read, or is refused."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from sqlalchemy.dialects import sqlite

from monitoring.retraining.result import JobResult, Verdict
from monitoring.store.predictions import open_store
from monitoring.store.tables import Json
from serving import documents
from tests.support.monitoring.drifting import NOW

DIALECT = sqlite.dialect()
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


def kept(value: Any) -> Any:
    column = Json()
    return column.process_result_value(column.process_bind_param(value, DIALECT), DIALECT)


@given(VALUES)
def test_whatever_is_kept_is_the_same_or_refused(value: Any) -> None:
    try:
        again = kept(value)
    except documents.DocumentError:
        return
    assert documents.finite(again) == documents.finite(value)


def test_numbers_that_are_none_are_null_and_numpys_are_plain() -> None:
    value = {"gain": math.nan, "limit": [math.inf], "rows": np.int64(3), "share": np.float32(0.5), 4: True}
    assert kept(value) == {"gain": None, "limit": [None], "rows": 3, "share": 0.5, "4": True}


@pytest.mark.parametrize("value", [{"reason": "\ud800"}, {"count": 2**64 + 1}, {"what": object()}])
def test_what_would_not_be_the_same_is_refused(value: Any) -> None:
    with pytest.raises(documents.DocumentError):
        kept(value)


def test_a_job_and_a_decision_with_what_could_not_be_measured_are_read_again(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path / 'monitor.db'}")
    job = store.journal.create_job("flights", "hand", "a test", NOW)
    rows: Any = np.int64(7)
    verdict = Verdict(False, "no better", (), "rmse", math.nan, 7.0, None, None, rows)
    store.journal.extend_job(job.id, JobResult(verdict=verdict))
    store.journal.record("flights", "refused", {"limit": math.inf}, NOW)
    assert store.journal.job(job.id).result.verdict == replace(verdict, champion=None, rows=7)
    (decision,) = store.journal.decisions("flights")
    assert decision.details == {"limit": None}
    store.close()
