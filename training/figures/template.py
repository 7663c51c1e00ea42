"""Templates of pages: each lies beside a module, on the frame that every page has."""

from collections.abc import Callable, Mapping
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

FRAMES = Path(__file__).parent  # folder of ``frame.html``: head, colours of both schemes, style of tables and figures


def template(path: Path, filters: Mapping[str, Callable[..., str]]) -> Template:
    """Load a template that may extend ``frame.html``.

    Args:
        filters: by name, beside ``markup`` for text that is markup already.
    """
    environment = Environment(
        loader=FileSystemLoader([path.parent, FRAMES]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"markup": Markup, **filters}
    return environment.get_template(path.name)
