"""The results as Markdown, written between markers of a page whose prose survives."""

from pathlib import Path

from loadtests.bench.language import results as figures
from loadtests.bench.language.goals import goals
from loadtests.bench.language.results import MACHINE, OURS, Results
from loadtests.bench.tensors.report import goals_table, quick, span
from loadtests.bench.tensors.results import spread
from training.figures.text import Marks, put, table

MARKS = Marks(
    "<!-- bench-chat: from here written by `make bench-chat` -->", "<!-- bench-chat: until here -->", "Language model"
)


def write(results: Results, page: Path) -> None:
    """Put the tables between the markers of a page; one without markers gets them at its end.

    Raises:
        ValueError: only one of the markers is there.
    """
    put(markdown(results), page, MARKS)


def markdown(results: Results) -> str:
    """All tables."""
    parts = [
        _head(results),
        goals_table(goals(results)),
        _contenders(results),
        _ours(results),
        _absent(results),
        _versions(results),
    ]
    return "\n".join(part for part in parts if part)


def _head(results: Results) -> str:
    machine = results.machine
    bandwidth = span(spread(results.values(MACHINE, figures.BANDWIDTH), lambda value: value / 1e9), 1)
    lines = [
        f"Measured on {results.started[:10]}, {machine['processor']}, {machine['cores']} cores shared by server and "
        f"clients, {machine['memory']} of memory that is read at {bandwidth} GB/s, {machine['system']}, "
        f"Python {machine['python']}. The weights are {results.weights / 1e6:.0f} MB.",
        "",
        f"{results.rounds} rounds, in each every contender in turn: started, warmed up for half a minute, measured, "
        "stopped. Prompts of 128 tokens that begin differently, 64 new tokens, greedy, the same for all. Medians over "
        "the rounds, the smallest and largest in brackets; a ratio is taken within a round. Decoding is from the last "
        "stream's first token to the first one's last, end to end from the first request to the last token. Ours "
        "decodes 8 prompts that it has just answered, so that all start at once.",
        "",
        "![tokens a second, and the first token](language-model.png)",
        "",
    ]
    return quick(results.rounds) + "\n".join(lines)


def _contenders(results: Results) -> str:
    columns = (
        ("1 stream, tok/s", figures.ALONE, 1, 0),
        ("its first token, ms", figures.FIRST, 1000, 0),
        ("1 stream end to end, tok/s", figures.ALONE_END_TO_END, 1, 0),
        ("8 streams decoding, tok/s", figures.DECODING, 1, 0),
        ("8 streams end to end, tok/s", figures.END_TO_END, 1, 0),
        ("their earliest first token, ms", figures.EARLIEST, 1000, 0),
        ("their latest, ms", figures.LATEST, 1000, 0),
        ("texts as ours alone, %", figures.SAME, 100, 0),
        ("text until a difference, %", figures.AGREES, 100, 0),
    )
    rows = [
        (title, *(_cell(results, name, figure, scale, digits) for _, figure, scale, digits in columns))
        for name, title in results.titles.items()
        if results.values(name, figures.ALONE)
    ]
    return "### Contenders\n\n" + table(("", *(text for text, *_ in columns)), rows)


def _ours(results: Results) -> str:
    lines = [
        ("conversation with a new system prompt of 512 tokens: first token, ms", figures.COLD),
        ("another one with the same system prompt", figures.WARM_SYSTEM),
        ("the same one, a turn later", figures.WARM_TURNS),
    ]
    for count in figures.BESIDE:
        streams = f"{count} stream{'s' * (count > 1)}"
        lines.append((f"between tokens of {streams}, the median gap, ms", figures.IDLE_GAP.format(count)))
        lines.append(("while a prompt of 1,000 tokens is prefilled, p95", figures.BUSY_GAP.format(count)))
    rows = [(text, _cell(results, OURS, figure, 1000, 0)) for text, figure in lines]
    return "### Known beginnings, and long prompts beside streams\n\n" + table(("Marloop", "measured"), rows)


def _absent(results: Results) -> str:
    rows = [(results.titles.get(name, name), " ".join(why.split())[:400]) for name, why in results.absent.items()]
    return "### Missing\n\n" + table(("contender", "why"), rows) if rows else ""


def _versions(results: Results) -> str:
    found = {line for lines in results.versions.values() for line in lines}
    return f"Versions: {', '.join(sorted(found, key=str.lower))}.\n" if found else ""


def _cell(results: Results, contender: str, figure: str, scale: float, digits: int) -> str:
    return span(spread(results.values(contender, figure), lambda value: value * scale), digits)
