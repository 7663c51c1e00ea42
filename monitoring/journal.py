"""Jobs and decisions in the store: what was done, why, and what came of it."""

from collections.abc import Collection, Mapping
from dataclasses import fields
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, insert, select, update

from monitoring import tables
from monitoring.records import Decision, Job, State, Trigger

_CHANGEABLE = {field.name for field in fields(Job)} - {"id", "model", "trigger", "created"}


class Journal:
    """Reads and writes jobs and decisions.

    Args:
        engine: of a database whose tables are made.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def create_job(self, model: str, trigger: Trigger, reason: str, now: datetime) -> Job:
        """Queue a job."""
        values: dict[str, Any] = {"model": model, "trigger": trigger, "reason": reason, "state": "queued"}
        values |= {"created": now, "progress": "", "log": "", "result": {}}
        with self._engine.begin() as connection:
            statement = insert(tables.jobs).values(values).returning(tables.jobs)
            return Job(**connection.execute(statement).mappings().one())

    def jobs(
        self, model: str | None = None, states: Collection[State] | None = None, limit: int | None = None
    ) -> list[Job]:
        """Jobs, newest first; of one model, in some states."""
        statement = select(tables.jobs).order_by(tables.jobs.c.id.desc()).limit(limit)
        if model is not None:
            statement = statement.where(tables.jobs.c.model == model)
        if states is not None:
            statement = statement.where(tables.jobs.c.state.in_(states))
        with self._engine.connect() as connection:
            return [Job(**row) for row in connection.execute(statement).mappings()]

    def job(self, id: int) -> Job:
        """One job.

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
        wrong = changes.keys() - _CHANGEABLE
        if wrong or not changes:
            raise ValueError(f"cannot change {sorted(wrong)} of a job, only {sorted(_CHANGEABLE)}")
        statement = update(tables.jobs).where(tables.jobs.c.id == id).values(changes).returning(tables.jobs)
        with self._engine.begin() as connection:
            return _one(id, connection.execute(statement).mappings().one_or_none())

    def record(self, model: str, kind: str, details: Mapping[str, Any], now: datetime) -> None:
        """Write down a decision; ``details`` must fit JSON."""
        values = {"model": model, "kind": kind, "details": dict(details), "time": now}
        with self._engine.begin() as connection:
            connection.execute(insert(tables.decisions).values(values))

    def decisions(self, model: str | None = None, limit: int | None = None) -> list[Decision]:
        """Decisions, newest first."""
        statement = select(tables.decisions).order_by(tables.decisions.c.id.desc()).limit(limit)
        if model is not None:
            statement = statement.where(tables.decisions.c.model == model)
        with self._engine.connect() as connection:
            return [Decision(**row) for row in connection.execute(statement).mappings()]


def _one(id: int, row: Any) -> Job:
    if row is None:
        raise KeyError(f"there is no job {id}")
    return Job(**row)
