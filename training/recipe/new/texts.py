"""A recipe for a table of texts: its target, and its text."""

from dataclasses import replace
from pathlib import Path

from training.data import DataError
from training.recipe.new import dates
from training.recipe.new.columns import RANDOM
from training.recipe.new.files import read_sample
from training.recipe.new.source import LONGEST, Method, Source, quoted
from training.recipe.new.tables import (
    Draft,
    Question,
    about,
    attributes_of,
    file_literal,
    imports_of,
    preset,
    read_literal,
    read_target,
    target_notes,
)
from training.recipe.rows import names_of
from training.recipe.texts import Texts

LONG = 0.95  # share of the texts that are not cut off
SIZES = (32, 64, 128, 256, 512)  # words of a text


def draft_texts(path: Path, text: str, question: Question, place: Path) -> Draft:
    """Draft a recipe for texts.

    Args:
        text: column of the texts.
        place: folder of the recipe.

    Raises:
        DataError: nothing can be learned from the file.
    """
    path = path.resolve()
    frame, options = read_sample(path)
    if text not in frame.columns or text == question.target:
        raise DataError(f"{path} has no column {text!r} of texts; it has {', '.join(map(str, frame.columns[:20]))}")
    target = read_target(frame, question, path)
    known = names_of(frame[text]).dropna()
    words = float(known.str.count(r"\w+|[^\w\s]").quantile(LONG)) if len(known) else 0.0
    longest = next((size for size in SIZES if size >= words), SIZES[-1])
    texts = Texts(path, text, question.target, longest, read=options)
    if question.time not in ("", RANDOM):
        if question.time not in frame.columns:
            raise DataError(f"{path} has no column {question.time!r} to split by")
        form = dates.time_format(frame[question.time], asked=True)
        if not form:
            raise DataError(f"{question.time!r} has no times: neither dates nor seconds since 1970")
        texts = replace(texts, time=question.time, time_format=form)
    texts.data(frame, target.labels, "")
    arguments = [f"file={file_literal(path, place)}", f"text={quoted(text)}", f"target={quoted(question.target)}"]
    arguments.append(f"longest={longest}")
    if texts.time:
        arguments += [f"time={quoted(texts.time)}", f"time_format={quoted(texts.time_format)}"]
    arguments += [f"read={read_literal(options)}"] if options else []
    inner = "".join(f"    {argument},\n" for argument in arguments)
    classes = ", len(self.labels)" if target.labels else ""
    how = "the newest fifth" if texts.time else "a fifth"
    source = Source(
        name=question.name,
        about=about(target, question.target, path.name),
        task=target.task,
        imports=("from training.recipe.texts import TextNetwork, Texts, text_baselines", *imports_of(target)),
        data=f"TEXTS = Texts(\n{inner})",
        labels=target.labels,
        attributes=('entry_point = "text"', *attributes_of(target, question.target)),
        preset=preset(len(frame)),
        load=Method(
            f"Read the texts; hold out {how}, and watch a tenth.",
            f"TEXTS.load({'self.labels' if target.labels else ''})",
        ),
        module=Method(
            "Build vectors for words and pairs of words, and a linear layer.",
            f"TextNetwork(data{classes}, width=64, dropout=0.3)",
        ),
        baselines=Method(
            f"Predict by {'the commonest class' if target.labels else 'the mean'}, and by a linear model of the words.",
            f"text_baselines(data{classes})",
        ),
    ).render()
    if source.count("\n") > LONGEST:
        raise DataError(f"{path}: the names of {len(target.labels)} labels do not fit into {LONGEST} lines of recipe")
    split = f"split by {texts.time}: the newest fifth held out" if texts.time else "split at random: a fifth held out"
    notes = (f"{path.name}: {len(known):,} texts, of up to {longest} words and signs; more are cut off",)
    return Draft(source, (*notes, *target_notes(target), split))
