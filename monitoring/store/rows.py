"""Statements of one transaction that stores predictions or labels.

``Database.writing`` lets one writer in at a time. So of a label and its prediction, the later one sees the earlier one,
and a label that its model does not have is never joined.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from sqlalchemy import (
    Connection,
    Integer,
    Row,
    Select,
    String,
    Table,
    TableValuedAlias,
    bindparam,
    column,
    delete,
    func,
    insert,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.dialects.postgresql import ARRAY

from monitoring.store import tables
from monitoring.store.checks.labels import AmbiguousLabels, WrongLabel, WrongLabels
from monitoring.store.postgresql.copying import by_index, insert_staged, labels_of_staged
from monitoring.store.records import (
    Conflict,
    Feedback,
    FeedbackResult,
    Label,
    LabelConflict,
    Prediction,
    without_answer,
)

T = TypeVar("T")
Check = Callable[[Feedback, str, str | None], WrongLabel | None]  # label, model, version -> its fault
CORRECTED = "label_corrected"  # kind of the decision that records changed labels
UNKNOWN = ""  # the model of a label that waits for its prediction and names none
_CHUNK = 500  # keys in one query
_PREDICTIONS, _FEEDBACK = tables.predictions.c, tables.feedback.c


@dataclass(frozen=True)
class Added:
    """Number of new predictions, and the labels that waited for them and that their model does not have."""

    new: int
    wrong: Sequence[WrongLabel]


def anything(feedback: Feedback, model: str, version: str | None) -> WrongLabel | None:
    """Accept every label."""
    return None


def unique(predictions: Iterable[Prediction]) -> list[Prediction]:
    """Return the rows without those that repeat a key."""
    rows: dict[tuple[str, int, str], Prediction] = {}
    for row in predictions:
        rows.setdefault((row.request_id, row.row, row.model), row)
    return list(rows.values())


def keep_predictions(connection: Connection, rows: Sequence[Prediction], check: Check, staged: bool = False) -> Added:
    """Store predictions, and join them with the labels that came first.

    Args:
        connection: one of ``Database.writing``.
        rows: each key once.
        staged: whether the rows are in PostgreSQL's temporary table already.
    """
    if not rows:
        return Added(0, ())
    if staged:
        new, labels = insert_staged(connection), labels_of_staged(connection)
    else:
        new = insert_new(connection, tables.predictions, [vars(row) for row in rows])
        keys = list({(row.request_id, row.row) for row in rows})
        labels = with_keys(connection, select(tables.feedback), keys)
    return Added(new, _join(connection, rows, labels, check))


def _join(
    connection: Connection, rows: Sequence[Prediction], labels: Sequence[Row[Any]], check: Check
) -> list[WrongLabel]:
    """Give the labels that came first to the rows that they fit; return those that are wrong."""
    waiting: dict[tuple[str, int], list[Feedback]] = {}
    for label in labels:
        waiting.setdefault((label.request_id, label.row), []).append(Feedback(**label._mapping))
    wrong: list[WrongLabel] = []
    for row in rows if waiting else ():
        own = {label.model: label for label in waiting.get((row.request_id, row.row), ())}
        feedback = own.get(row.model) or own.get(UNKNOWN)
        if feedback is None:
            continue
        fault = check(feedback, row.model, row.version)
        if fault is not None:
            wrong.append(fault)
            if feedback.model:
                _forget(connection, feedback)  # one without a model may be about another model's row, and waits on
        elif not feedback.model:
            _assign(connection, feedback, row.model)
            waiting[feedback.request_id, feedback.row].remove(feedback)
    return wrong


def keep_feedback(
    connection: Connection, feedback: Sequence[Feedback], check: Check, correct: bool, now: datetime | None
) -> FeedbackResult:
    """Store labels, all or none.

    Args:
        connection: one of ``Database.writing``.
        feedback: labels; one without a model is about the model that answered the request.
        correct: whether a label may replace another one, which a decision then records.
        now: time of that decision.

    Raises:
        WrongLabels: their models do not have them.
        AmbiguousLabels: several models answered the request.
        LabelConflict: a row has another label already, and it is not to be corrected.
    """
    if connection.dialect.name == "postgresql":
        by_index(connection)
    feedback = _named(connection, feedback)
    keys = list({(label.request_id, label.row) for label in feedback})
    answered = {
        (row.model, row.request_id, row.row): row.version
        for row in with_keys(connection, select(tables.predictions), keys, _PREDICTIONS)
    }
    faults = (check(label, label.model, answered.get(_key(label))) for label in feedback)
    if wrong := [fault for fault in faults if fault is not None]:
        raise WrongLabels(wrong)
    rows = sorted(map(asdict, feedback), key=lambda row: (row["request_id"], row["row"], row["model"]))
    new = insert_new(connection, tables.feedback, rows)
    stored: dict[tuple[str, str, int], Label] = {
        (row.model, row.request_id, row.row): row.label for row in with_keys(connection, select(tables.feedback), keys)
    }
    conflicts = [
        Conflict(label.request_id, label.row, stored[_key(label)], label.label, label.model)
        for label in feedback
        if stored[_key(label)] != label.label
    ]
    labelled = {_key(label) for label in feedback}
    if conflicts and (not correct or len(labelled) < len(feedback)):
        raise LabelConflict(conflicts)
    _correct(connection, conflicts, now)
    waiting = labelled - answered.keys()
    return FeedbackResult(new, len(rows) - new - len(conflicts), len(waiting), len(conflicts))


def insert_new(connection: Connection, table: Table, rows: list[dict[str, Any]]) -> int:
    """Insert the rows whose key is new; return how many there were."""
    if not rows:
        return 0
    dialect = postgresql if connection.dialect.name == "postgresql" else sqlite
    statement = dialect.insert(table).on_conflict_do_nothing()
    return connection.execute(statement, rows, execution_options={"preserve_rowcount": True}).rowcount


def with_keys(
    connection: Connection, statement: Select[Any], keys: Sequence[tuple[str, int]], columns: Any = _FEEDBACK
) -> list[Row[Any]]:
    """Return the rows of a table with these ids and positions; ``columns`` are the table's.

    PostgreSQL joins with the keys, an index look-up for each in each partition; it would plan a long list for seconds.
    """
    if connection.dialect.name == "postgresql":
        asked = _table_of(keys)
        same = (columns.request_id == asked.c.request_id) & (columns.row == asked.c.row)
        return list(connection.execute(statement.join(asked, same)))
    key = tuple_(columns.request_id, columns.row)
    return [row for some in chunks(keys) for row in connection.execute(statement.where(key.in_(some)))]


def _table_of(keys: Sequence[tuple[str, int]]) -> TableValuedAlias:
    """Return keys as a table of PostgreSQL, each once."""
    pairs, columns = sorted(set(keys)), (column("request_id", String()), column("row", Integer()))
    ids, rows = [id for id, _ in pairs], [row for _, row in pairs]
    arrays = literal(ids, ARRAY(String)), literal(rows, ARRAY(Integer))
    return func.unnest(*arrays).table_valued(*columns, name="asked").render_derived()


def chunks(values: Sequence[T]) -> Iterator[Sequence[T]]:
    """Yield pieces that are small enough for one query."""
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]


def _named(connection: Connection, feedback: Sequence[Feedback]) -> list[Feedback]:
    """Return the labels, each with the model that answered the request, where that is known."""
    ids = sorted({label.request_id for label in feedback if not label.model})
    models: dict[str, list[str]] = {}
    for some in chunks(ids):
        statement = select(_PREDICTIONS.request_id, _PREDICTIONS.model).distinct()
        for row in connection.execute(statement.where(_PREDICTIONS.request_id.in_(some))):
            models.setdefault(row.request_id, []).append(row.model)
    if several := {id: sorted(names) for id, names in models.items() if len(names) > 1}:
        raise AmbiguousLabels(several)
    return [
        label if label.model else replace(label, model=models.get(label.request_id, [UNKNOWN])[0]) for label in feedback
    ]


def _key(label: Feedback) -> tuple[str, str, int]:
    return label.model, label.request_id, label.row


def _of(label: Feedback) -> Any:
    return (_FEEDBACK.model == label.model) & (_FEEDBACK.request_id == label.request_id) & (_FEEDBACK.row == label.row)


def _forget(connection: Connection, label: Feedback) -> None:
    connection.execute(delete(tables.feedback).where(_of(label)))


def _assign(connection: Connection, label: Feedback, model: str) -> None:
    connection.execute(update(tables.feedback).where(_of(label)).values(model=model))


def _change_of(conflict: Conflict) -> dict[str, Label]:
    return {"was": without_answer(conflict.stored), "is": without_answer(conflict.label)}


def _correct(connection: Connection, conflicts: Sequence[Conflict], now: datetime | None) -> None:
    """Change labels, and record the former ones."""
    if not conflicts:
        return
    statement = update(tables.feedback).where(
        _FEEDBACK.model == bindparam("of_model"),
        _FEEDBACK.request_id == bindparam("of_request"),
        _FEEDBACK.row == bindparam("of_row"),
    )
    keyed = [
        {"of_model": conflict.model, "of_request": conflict.request_id, "of_row": conflict.row, "label": conflict.label}
        for conflict in conflicts
    ]
    connection.execute(statement.values(label=bindparam("label")), keyed)
    for model in dict.fromkeys(conflict.model for conflict in conflicts):
        own = [
            {"request_id": conflict.request_id, "row": conflict.row, **_change_of(conflict)}
            for conflict in conflicts
            if conflict.model == model
        ]
        values = {"model": model, "kind": CORRECTED, "details": {"rows": len(own), "labels": own}, "time": now}
        connection.execute(insert(tables.decisions).values(values))
