"""``python -m monitoring.grafana.generate``: write the dashboards' JSON, which is committed."""

from pathlib import Path

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.cog.encoder import JSONEncoder

from monitoring.grafana.host import host
from monitoring.grafana.language import language
from monitoring.grafana.model import model
from monitoring.grafana.quality import quality
from monitoring.grafana.service import service

FOLDER = Path(__file__).parent / "dashboards"
DASHBOARDS = {
    "service.json": service,
    "model.json": model,
    "language.json": language,
    "quality.json": quality,
    "host.json": host,
}


def documents() -> dict[str, str]:
    """Return the JSON of each dashboard, by file name."""
    return {name: _document(build()) for name, build in DASHBOARDS.items()}


def main() -> None:
    """Write the JSON of all dashboards."""
    for name, text in documents().items():
        (FOLDER / name).write_text(text, "utf-8")


def _document(builder: Dashboard) -> str:
    dashboard = builder.build()
    for i, panel in enumerate(dashboard.panels or [], start=1):
        panel.id_val = i
    return JSONEncoder(indent=1, sort_keys=True).encode(dashboard) + "\n"


if __name__ == "__main__":
    main()
