"""``marloop conversations``: what is captured of a language model's conversations, and what may be learned of it.

It reads and writes the monitor's database itself: no call of the monitor tells what was said.
"""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from sqlalchemy.exc import SQLAlchemyError

from monitoring.live.clock import wall_clock
from monitoring.retraining.language.approved import split, write_conversations
from monitoring.retraining.language.policy import ConversationPolicy
from monitoring.store.database import DatabaseError, database_url
from monitoring.store.predictions import open_store
from monitoring.store.reviews import Review, ReviewedConversation, Reviews, key_of, name_of
from serving import command_line
from serving.command_line import Json, console, fail
from training.statistics.labels import thumb_of

app = typer.Typer(
    no_args_is_help=True, help="Captured conversations of a language model: list, approve, reject, remove, export."
)
Model = Annotated[str, typer.Argument(help="Name of a language model.")]
Names = Annotated[list[str], typer.Argument(help="Names as `list` shows them.")]
SHOWN = 300  # characters of a message


@app.command("list")
def list_conversations(
    model: Model,
    review: Annotated[Review | None, typer.Option(help="Only those that are new, approved or rejected.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="How many, the newest.")] = 20,
    as_json: Json = False,
) -> None:
    """Show captured conversations, the newest first: the last question, the answer, the thumb and the review."""
    with _reviews() as (reviews, _):
        found = reviews.conversations(model, review, limit=limit)
    if as_json:
        typer.echo(msgspec.json.encode([_document(one) for one in found]))
        return
    for one in found:
        captured = one.conversation
        marks = [one.review, *([thumb] if (thumb := thumb_of(one.label)) else [])]
        if captured.output["finish_reason"] == "length":
            marks.append("cut off")
        head = f"{name_of(captured.request_id, captured.row)}  {captured.time:%Y-%m-%d %H:%M}  {captured.version}"
        console.print(f"{head}  {', '.join(marks)}", markup=False)
        lines = {"asked": captured.features["messages"][-1]["content"], "answered": captured.output["content"]}
        for what, text in (lines | ({"better": one.better} if one.better else {})).items():
            console.print(f"  {what}: {_shown(text)}", markup=False)
    if not found:
        console.print(f"no conversation of {model} is {review or 'captured'}", markup=False)


@app.command()
def approve(model: Model, names: Names) -> None:
    """Let the model learn conversations: with the better answer where a client sent one, else with its own."""
    _decide(model, names, "approved")


@app.command()
def reject(model: Model, names: Names) -> None:
    """Never let the model learn conversations."""
    _decide(model, names, "rejected")


@app.command()
def remove(model: Model, names: Names) -> None:
    """Remove conversations for good, with their thumbs; files of retrainings and backups go when they are too old."""
    with _reviews() as (reviews, _):
        removed = reviews.remove(model, [key_of(name) for name in names])
    console.print(f"removed: {removed:,}", markup=False)


@app.command()
def export(
    model: Model,
    output: Annotated[Path, typer.Argument(help="File for the conversations to learn: `train --instructions`.")],
    held_out: Annotated[Path, typer.Argument(help="File for those that are never learned: `evaluate --held-out`.")],
) -> None:
    """Write the approved conversations, split as the monitor splits them: a JSON object a line."""
    with _reviews() as (reviews, policy):
        learned, others = split(reviews.conversations(model, "approved"), policy.holdout)
        write_conversations(output, learned)
        write_conversations(held_out, others)
    console.print(f"{output}: {len(learned):,} conversations to learn", markup=False)
    console.print(f"{held_out}: {len(others):,} that are held out", markup=False)


def _decide(model: str, names: list[str], review: Review) -> None:
    with _reviews() as (reviews, _):
        changed = reviews.decide(model, [key_of(name) for name in names], review, wall_clock())
    console.print(f"{review}: {changed:,}", markup=False)


@contextlib.contextmanager
def _reviews() -> Iterator[tuple[Reviews, ConversationPolicy]]:
    """Yield the reviews of the monitor's database, and the policy; an error ends the command with a sentence."""
    settings = command_line.settings()
    try:
        policy = ConversationPolicy.from_environment(os.environ)
        store = open_store(database_url(os.environ, settings.run_dir))
        try:
            yield Reviews(store.database, policy.thumbs_approve), policy
        finally:
            store.close()
    except (DatabaseError, KeyError, OSError, SQLAlchemyError, ValueError) as error:
        fail(error)


def _document(one: ReviewedConversation) -> dict[str, object]:
    captured = one.conversation
    return {
        "name": name_of(captured.request_id, captured.row),
        "version": captured.version,
        "time": captured.time,
        "review": one.review,
        "thumb": thumb_of(one.label),
        "messages": captured.features["messages"],
        "answer": captured.output["content"],
        "better": one.better,
        "finish_reason": captured.output["finish_reason"],
    }


def _shown(text: str) -> str:
    """Return the beginning of a text in a line, without the control characters by which it could write elsewhere."""
    line = " ".join(text[: SHOWN + 1].split())
    safe = "".join(character if character.isprintable() else "�" for character in line)
    return safe if len(text) <= SHOWN else f"{safe[:SHOWN]}…"
