"""Reviews of captured conversations: what a person approves may be learned, what is rejected never is."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement, Row, Select, Text, case, delete, insert, literal, or_, select, type_coerce

from handlers.language.api.answers import request_of_answer
from monitoring.store import tables
from monitoring.store.database import Database
from monitoring.store.records import Label, Prediction
from monitoring.store.rows import with_keys
from training.statistics.labels import UP

Review = Literal["new", "approved", "rejected"]
_PREDICTIONS, _FEEDBACK, _REVIEWS = tables.predictions.c, tables.feedback.c, tables.reviews.c


@dataclass(frozen=True)
class ReviewedConversation:
    """A captured conversation with what people said of it.

    Attributes:
        label: ``up``, ``down``, or a thumb with a better answer; None where nobody said.
        review: new until somebody decides.
        decided: time of the review, or of the thumb that stands for one; None for a new one.
    """

    conversation: Prediction
    label: Label | None
    review: Review
    decided: datetime | None

    @property
    def better(self) -> str | None:
        """The better answer that a client sent; None for none."""
        answer = self.label.get("answer") if isinstance(self.label, dict) else None
        return answer if isinstance(answer, str) else None

    @property
    def answer(self) -> str:
        """The answer to learn: the better one, else the model's."""
        return self.better or str(self.conversation.output["content"])

    @property
    def messages(self) -> list[dict[str, str]]:
        """``role`` and ``content`` of each message, the answer to learn at the end."""
        return [*self.conversation.features["messages"], {"role": "assistant", "content": self.answer}]


class Reviews:
    """Reads captured conversations, and keeps what people decide about them.

    Args:
        thumbs_approve: whether a thumb up approves a conversation that nobody reviewed, unless its answer was cut off.
    """

    def __init__(self, database: Database, thumbs_approve: bool = False) -> None:
        self._database, self._thumbs_approve = database, thumbs_approve

    def conversations(
        self,
        model: str,
        review: Review | None = None,
        *,
        since: datetime | None = None,
        decided_after: datetime | None = None,
        limit: int | None = None,
    ) -> list[ReviewedConversation]:
        """Return captured conversations of a language model, newest first.

        Args:
            review: None for all.
            since: the earliest time of the request, included.
            decided_after: the time that the decision is later than.
        """
        state, decided = self._state(), self._decided()
        statement: Select[Any] = (
            select(tables.predictions, _FEEDBACK.label, state.label("review"), decided.label("decided"))
            .select_from(tables.predictions)
            .outerjoin(tables.feedback, tables.SAME_ROW)
            .outerjoin(tables.reviews, tables.REVIEWED)
            .where(_PREDICTIONS.model == model)
            .order_by(_PREDICTIONS.time.desc(), _PREDICTIONS.request_id.desc(), _PREDICTIONS.row.desc())
            .limit(limit)
        )
        if review is not None:
            statement = statement.where(state == review)
        if since is not None:
            statement = statement.where(_PREDICTIONS.time >= since)
        if decided_after is not None:
            statement = statement.where(decided > decided_after)
        with self._database.engine.connect() as connection:
            return [_reviewed(row) for row in connection.execute(statement)]

    def decide(self, model: str, keys: Sequence[tuple[str, int]], review: Review, now: datetime) -> int:
        """Approve, reject or take back the review of conversations, all or none; return how many changed.

        Args:
            keys: id of the request and position of the answer of each.
            now: time of the decision.

        Raises:
            KeyError: one of them is not captured, or not any more; names it.
        """
        with self._database.writing() as connection:
            rows = with_keys(connection, select(tables.predictions), keys, _PREDICTIONS)
            known = {(row.request_id, row.row) for row in rows if row.model == model}
            if missing := [key for key in keys if key not in known]:
                raise KeyError(f"no conversation {name_of(*missing[0])} of {model} is captured")
            former = {
                (row.request_id, row.row): row.state
                for row in with_keys(connection, select(tables.reviews), keys, _REVIEWS)
                if row.model == model
            }
            changed = [key for key in dict.fromkeys(keys) if former.get(key, "new") != review]
            for request_id, row in changed:
                this = (_REVIEWS.request_id == request_id) & (_REVIEWS.row == row) & (_REVIEWS.model == model)
                connection.execute(delete(tables.reviews).where(this))
            if changed and review != "new":
                values = [
                    {"request_id": request_id, "row": row, "model": model, "state": review, "time": now}
                    for request_id, row in changed
                ]
                connection.execute(insert(tables.reviews), values)
        return len(changed)

    def remove(self, model: str, keys: Sequence[tuple[str, int]]) -> int:
        """Remove conversations with their labels and reviews, and return how many there were.

        Args:
            keys: as of ``decide``; one that is not captured is left out.
        """
        removed = 0
        with self._database.writing() as connection:
            for request_id, row in dict.fromkeys(keys):
                for table in (tables.predictions, tables.feedback, tables.reviews):
                    own = table.c
                    this = (own.request_id == request_id) & (own.row == row) & (own.model == model)
                    gone = connection.execute(delete(table).where(this)).rowcount
                    removed += gone if table is tables.predictions else 0
        return removed

    def _approving_thumb(self) -> ColumnElement[bool]:
        """Return whether a thumb stands for a review: labels and answers are JSON as ``tables.Json`` writes it."""
        if not self._thumbs_approve:
            return literal(False)
        label, output = type_coerce(_FEEDBACK.label, Text), type_coerce(_PREDICTIONS.output, Text)
        whole = (label == f'"{UP}"') & ~output.like('%"finish_reason":"length"}')
        return or_(whole, label.like(f'{{"thumb":"{UP}","answer":%'))

    def _state(self) -> ColumnElement[str]:
        return case((_REVIEWS.state.is_not(None), _REVIEWS.state), (self._approving_thumb(), "approved"), else_="new")

    def _decided(self) -> ColumnElement[Any]:
        return case((_REVIEWS.state.is_not(None), _REVIEWS.time), (self._approving_thumb(), _FEEDBACK.time))


def name_of(request_id: str, row: int) -> str:
    """Return the name of a captured conversation: the id of its request, and the position of the answer."""
    return f"{request_id}/{row}"


def key_of(name: str) -> tuple[str, int]:
    """Return the id of a request and the position of the answer, 0 without one; an answer's id is a name too."""
    request_id, slash, row = name.rpartition("/")
    if slash and row.isdecimal() and len(row) < 7:
        return request_of_answer(request_id), int(row)
    return request_of_answer(name), 0


def _reviewed(row: Row[Any]) -> ReviewedConversation:
    conversation = Prediction(row.request_id, row.row, row.model, row.version, row.time, row.features, row.output)
    return ReviewedConversation(conversation, row.label, row.review, row.decided)
