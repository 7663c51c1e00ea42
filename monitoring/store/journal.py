"""Jobs and decisions in the store, with their reasons and results."""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Column, Connection, Table, delete, func, insert, select, update

from monitoring.retraining.result import JobResult, read_result
from monitoring.store import tables
from monitoring.store.database import Database
from monitoring.store.records import UNDER_WAY, Decision, Job, State, Trigger
from serving import documents

LASTING = ("promoted", "rolled_back")  # kinds of decisions and states of jobs
_CHANGEABLE = {field.name for field in fields(Job)} - {"id", "model", "trigger", "created", "result"}


class JobUnderWayError(Exception):
    """A model has a job that has not ended."""


class Journal:
    """Reads and writes jobs and decisions."""

    def __init__(self, database: Database) -> None:
        self._database, self._engine = database, database.engine

    def create_job(
        self,
        model: str,
        trigger: Trigger,
        reason: str,
        now: datetime,
        alone: bool = False,
        result: JobResult = JobResult(),  # noqa: B008
    ) -> Job:
        """Queue a job, whose result is known so far as given.

        Raises:
            JobUnderWayError: with ``alone``, another one is under way: two monitors may get the same alert at once.
        """
        values: dict[str, Any] = {"model": model, "trigger": trigger, "reason": reason, "state": "queued"}
        values |= {"created": now, "progress": "", "log": "", "result": documents.finite(result)}
        with self._database.writing() as connection:
            under_way = select(tables.jobs.c.id).where(tables.jobs.c.model == model, tables.jobs.c.state.in_(UNDER_WAY))
            if alone and (other := connection.execute(under_way.limit(1)).scalar_one_or_none()):
                raise JobUnderWayError(f"job {other} of {model} is under way: one at a time")
            statement = insert(tables.jobs).values(values).returning(tables.jobs)
            return _job(connection.execute(statement).mappings().one())

    def jobs(
        self, model: str | None = None, states: Collection[State] | None = None, limit: int | None = None
    ) -> list[Job]:
        """Return jobs, newest first; of one model, in some states."""
        statement = select(tables.jobs).order_by(tables.jobs.c.id.desc()).limit(limit)
        if model is not None:
            statement = statement.where(tables.jobs.c.model == model)
        if states is not None:
            statement = statement.where(tables.jobs.c.state.in_(states))
        with self._engine.connect() as connection:
            return [_job(row) for row in connection.execute(statement).mappings()]

    def job(self, id: int) -> Job:
        """Return one job.

        Raises:
            KeyError: there is none of this id.
        """
        with self._engine.connect() as connection:
            statement = select(tables.jobs).where(tables.jobs.c.id == id)
            return _one(id, connection.execute(statement).mappings().one_or_none())

    def update_job(self, id: int, **changes: Any) -> Job:
        """Change some of a job's attributes.

        Raises:
            KeyError: there is none of this id.
            ValueError: an attribute that no job has, or that stays.
        """
        with self._database.writing() as connection:
            return _change(connection, id, changes)

    def extend_job(self, id: int, more: JobResult, **changes: Any) -> Job:
        """Add to a job's result, and change some of its attributes; threads that do so at once lose nothing.

        Raises:
            KeyError: there is none of this id.
            ValueError: an attribute that no job has, or that stays.
        """
        with self._database.writing() as connection:
            return _change(connection, id, changes, more)

    def conclude_job(
        self,
        id: int,
        kind: str,
        details: Mapping[str, Any],
        now: datetime,
        more: JobResult = JobResult(),  # noqa: B008
        **changes: Any,
    ) -> Job:
        """Extend a job and record the decision that ended it, both or none.

        Raises:
            KeyError: there is none of this id.
            ValueError: an attribute that no job has, or that stays.
        """
        with self._database.writing() as connection:
            job = _change(connection, id, changes, more)
            _record(connection, job.model, kind, {"job": id, **details}, now)
        return job

    def record(self, model: str, kind: str, details: Mapping[str, Any], now: datetime) -> None:
        """Record a decision; ``details`` must fit JSON."""
        with self._database.writing() as connection:
            _record(connection, model, kind, details, now)

    def decisions(self, model: str | None = None, limit: int | None = None) -> list[Decision]:
        """Return decisions, newest first."""
        statement = select(tables.decisions).order_by(tables.decisions.c.id.desc()).limit(limit)
        if model is not None:
            statement = statement.where(tables.decisions.c.model == model)
        with self._engine.connect() as connection:
            return [Decision(**row) for row in connection.execute(statement).mappings()]

    def forgettable(self, before: datetime) -> int:
        """Return how many entries ``forget`` would remove."""
        with self._engine.connect() as connection:
            counts = (select(func.count()).select_from(table).where(old) for table, old in _old(before))
            return sum(connection.execute(count).scalar_one() for count in counts)

    def forget(self, before: datetime) -> int:
        """Remove decisions and ended jobs of before a moment, and return how many.

        Promotions and rollbacks stay: a later rollback needs them.
        """
        with self._database.writing() as connection:
            return sum(connection.execute(delete(table).where(old)).rowcount for table, old in _old(before))

    def job_counts(self) -> dict[tuple[str, str], int]:
        """Return the number of jobs, by model and state."""
        return self._counts(tables.jobs.c.model, tables.jobs.c.state)

    def decision_counts(self) -> dict[tuple[str, str], int]:
        """Return the number of decisions, by model and kind."""
        return self._counts(tables.decisions.c.model, tables.decisions.c.kind)

    def _counts(self, model: Column[Any], other: Column[Any]) -> dict[tuple[str, str], int]:
        statement = select(model, other, func.count()).group_by(model, other)
        with self._engine.connect() as connection:
            return {(row[0], row[1]): row[2] for row in connection.execute(statement)}


def _old(before: datetime) -> Iterator[tuple[Table, Any]]:
    decisions, jobs = tables.decisions.c, tables.jobs.c
    yield tables.decisions, (decisions.time < before) & decisions.kind.not_in(LASTING)
    yield tables.jobs, (jobs.ended < before) & jobs.state.not_in((*UNDER_WAY, *LASTING))


def _change(connection: Connection, id: int, changes: dict[str, Any], more: JobResult | None = None) -> Job:
    wrong = changes.keys() - _CHANGEABLE
    if wrong or not (changes or more):
        raise ValueError(f"cannot change {sorted(wrong)} of a job, only {sorted(_CHANGEABLE)}")
    this = tables.jobs.c.id == id
    if more is not None:  # other keys stay as they are, also those that another version of Marloop wrote
        former = connection.execute(select(tables.jobs.c.result).where(this)).scalar_one_or_none() or {}
        changes = {**changes, "result": {**former, **documents.finite(more)}}
    statement = update(tables.jobs).where(this).values(changes).returning(tables.jobs)
    return _one(id, connection.execute(statement).mappings().one_or_none())


def _record(connection: Connection, model: str, kind: str, details: Mapping[str, Any], now: datetime) -> None:
    values = {"model": model, "kind": kind, "details": dict(details), "time": now}
    connection.execute(insert(tables.decisions).values(values))


def _one(id: int, row: Any) -> Job:
    if row is None:
        raise KeyError(f"there is no job {id}")
    return _job(row)


def _job(row: Mapping[Any, Any]) -> Job:
    return Job(**{**row, "result": read_result(row["result"])})
