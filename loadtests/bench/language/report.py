"""The results as a chart and as Markdown, written between the marks of a page whose prose survives."""

from pathlib import Path

from loadtests.bench.language import results as figures
from loadtests.bench.language.goals import goals
from loadtests.bench.language.prompts import LONGEST, SHORTEST
from loadtests.bench.language.results import MACHINE, OURS, Results
from loadtests.bench.page import draw_bars, goals_table, head, missing_table, span, versions_line
from loadtests.bench.results import Spread, spread
from training.figures.picture import beside, picture
from training.figures.text import Marks, put, table

MARKS = Marks(
    "<!-- bench-chat: from here written by `make bench-chat` -->", "<!-- bench-chat: until here -->", "Language model"
)


PANELS = (
    ("1 stream, decoding", figures.ALONE, "tokens/s", 1),
    ("8 streams, end to end", figures.END_TO_END, "tokens/s", 1),
    ("first token, idle", figures.FIRST, "ms", 1000),
)


def write_page(results: Results, page: Path) -> str:
    """Put the tables between the marks of a page, or at its end, and the chart beside it; return the tables.

    Raises:
        ValueError: only one of the marks is there.
    """
    tables = markdown(results, beside(page).name)
    put(tables, page, MARKS)
    draw_chart(results, beside(page))
    return tables


def draw_chart(results: Results, path: Path) -> None:
    """Draw a panel a figure as a PNG, a bar a contender."""
    with picture(path, 13, 2.8) as figure:
        for axes, (title, measured, unit, scale) in zip(
            figure.subplots(1, len(PANELS), sharey=True), PANELS, strict=True
        ):
            names = [*results.titles][::-1]  # from below
            bars = [(name, name == OURS, _scaled(results, name, measured, scale)) for name in names]
            draw_bars(axes, bars, unit)
            axes.set_title(title)


def markdown(results: Results, chart: str) -> str:
    """Return all tables; ``chart`` is the file of ``draw_chart``."""
    parts = [
        _head(results, chart),
        goals_table(goals(results)),
        _contenders(results),
        _ours(results),
        missing_table(results, "contender"),
        versions_line({line for lines in results.versions.values() for line in lines}),
    ]
    return "\n".join(part for part in parts if part)


def _head(results: Results, chart: str) -> str:
    machine, engine = results.machine, results.settings["handler"]["engine"]
    bandwidth = span(spread(results.values(MACHINE, figures.BANDWIDTH), lambda value: value / 1e9), 1)
    paragraphs = [
        f"Measured on {results.started[:10]}, {machine['processor']}, {machine['cores']} cores shared by server and "
        f"clients, {machine['memory']} of memory that is read at {bandwidth} GB/s, {machine['system']}, "
        f"Python {machine['python']}. The weights are {results.weights / 1e6:.0f} MB; ours are computed by "
        f"{engine}.",
        f"{results.rounds} rounds, in each every contender in turn: started, warmed up for half a minute, measured, "
        "stopped. Prompts of 128 tokens that begin differently, 64 new tokens, greedy, the same for all. Medians over "
        "the rounds, the smallest and largest in brackets; a ratio is taken within a round. Decoding is from the last "
        "stream's first token to the first one's last, end to end from the first request to the last token. Ours "
        "decodes 8 prompts that it has just answered, so that all start at once.",
        f"![tokens a second, and the first token](pictures/{chart})",
    ]
    return head(results.rounds, paragraphs)


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
        lines.append(("the first token of that prompt, ms", figures.LATE.format(count)))
    lines += [
        (f"a prompt of {SHORTEST} tokens alone: first token, ms", figures.NEWCOMER_ALONE),
        (f"the same while one of {LONGEST:,} tokens is read", figures.NEWCOMER),
    ]
    rows = [(text, _cell(results, OURS, figure, 1000, 0)) for text, figure in lines]
    return "### Known beginnings, and long prompts beside streams\n\n" + table(("Marloop", "measured"), rows)


def _cell(results: Results, contender: str, figure: str, scale: float, digits: int) -> str:
    return span(_scaled(results, contender, figure, scale), digits)


def _scaled(results: Results, contender: str, figure: str, scale: float) -> Spread | None:
    return spread(results.values(contender, figure), lambda value: value * scale)
