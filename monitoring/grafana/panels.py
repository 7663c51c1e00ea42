"""The parts of the dashboards: queries, panels and variables, in one look.

Queries use ``$__rate_interval``, which Grafana makes of the scrape interval and the zoom, and the variables ``model``
and ``version``. A query must always return something: use ``or_zero`` for series that may be missing.
"""

from collections.abc import Mapping, Sequence

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    BigValueTextMode,
    LegendDisplayMode,
    LegendPlacement,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    Threshold,
    ThresholdsMode,
    ValueMap,
    ValueMappingResult,
    VariableOption,
    VariableRefresh,
    VariableSort,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")  # as in provisioning/datasources
TAG = "marloop"
WINDOW = "[$__rate_interval]"
CHOSEN = 'model=~"$model", version=~"$version"'
MODEL = "{{model}} {{version}}"
Panel = timeseries.Panel | stat.Panel | heatmap.Panel
QUANTILES = (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))


def query(expression: str, legend: str = "") -> prometheus.Dataquery:
    """Return a range query with the legend of its series."""
    target = prometheus.Dataquery().expr(expression).legend_format(legend or "__auto").datasource(SOURCE)
    return target.range().ref_id("A")


def rate(metric: str, by: str = "") -> str:
    """Return the growth a second of the chosen models' counter, summed over all labels but ``by``."""
    return f"sum{f' by ({by}) ' if by else ''}(rate({metric}{{{CHOSEN}}}{WINDOW}))"


def or_zero(expression: str, label: str = "", value: str = "none") -> str:
    """Return the expression, or 0 where it finds nothing or no number; the 0 carries ``label="value"``."""
    zero = f'label_replace(vector(0), "{label}", "{value}", "", "")' if label else "vector(0)"
    return f"{expression} > -Inf or on () {zero}"


def quantiles(metric: str, by: str, legend: str) -> list[prometheus.Dataquery]:
    """Return queries of a histogram's estimated percentiles.

    Args:
        metric: name of the histogram, without ``_bucket``.
        by: labels that are kept, separated by commas.
        legend: legend for these labels.
    """
    buckets = rate(f"{metric}_bucket", f"{by}, le")
    return [query(f"histogram_quantile({q}, {buckets})", f"{legend} {name}") for name, q in QUANTILES]


def series(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
    width: int = 12,
    stacked: bool = False,
) -> timeseries.Panel:
    """Return lines over time of values that are never below 0; arguments as of ``signed``."""
    return signed(title, description, unit, queries, width, stacked).min(0)


def signed(
    title: str,
    description: str,
    unit: str,
    queries: Sequence[prometheus.Dataquery],
    width: int = 12,
    stacked: bool = False,
) -> timeseries.Panel:
    """Return lines over time.

    Args:
        description: meaning and conclusions; shown on hover.
        unit: one of Grafana's units, such as ``s``, ``reqps``, ``percentunit``, ``bytes``.
        width: columns of 24.
        stacked: whether the values add up.
    """
    legend = common.VizLegendOptions().display_mode(LegendDisplayMode.TABLE).placement(LegendPlacement.BOTTOM)
    panel = (
        timeseries.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .unit(unit)
        .height(8)
        .span(width)
        .line_width(1)
        .fill_opacity(30 if stacked else 0)
        .show_points(VisibilityMode.NEVER)
        .legend(legend.show_legend(True).calcs(["lastNotNull", "max"]))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI))
    )
    if stacked:
        panel = panel.stacking(common.StackingConfig().mode(StackingMode.NORMAL).group("A"))
    return panel.targets([query.ref_id(chr(ord("A") + i)) for i, query in enumerate(queries)])


def requests_answered(title: str, width: int, stacked: bool = False) -> timeseries.Panel:
    """Return the traffic by model and version, as the workers count it."""
    answered = query(rate("model_requests_total", "model, version"), MODEL)
    return series(title, "Requests that workers answered, errors included.", "reqps", [answered], width, stacked)


def number(
    title: str, description: str, unit: str, expression: str, steps: Sequence[tuple[float, str]] = (), width: int = 4
) -> stat.Panel:
    """Return the newest value in large type; arguments as of ``signed``.

    Args:
        expression: must give one series.
        steps: pairs of a lowest value and its colour; green below the first.
    """
    return _stat(title, description, query(expression), steps, width).unit(unit).graph_mode(BigValueGraphMode.AREA)


def states(
    title: str, description: str, target: prometheus.Dataquery, words: tuple[str, str], width: int
) -> stat.Panel:
    """Return a word for each series: the first in red for 0, the second in green for 1."""
    bad, good = ValueMappingResult(text=words[0], color="red"), ValueMappingResult(text=words[1], color="green")
    panel = _stat(title, description, target, [], width)
    mapping = ValueMap(options={"0": bad, "1": good})
    return panel.unit("none").mappings([mapping]).text_mode(BigValueTextMode.VALUE_AND_NAME)


def distribution(title: str, description: str, unit: str, metric: str, width: int = 12) -> heatmap.Panel:
    """Return a histogram over time: the number of observations in each bucket."""
    expression = f"sum by (le) (increase({metric}_bucket{{{CHOSEN}}}{WINDOW}))"
    target = query(or_zero(expression, "le", "+Inf"), "{{le}}").format(PromQueryFormat.HEATMAP)
    panel = heatmap.Panel().title(title).description(description).datasource(SOURCE).unit("short")
    axis = heatmap.YAxisConfig().unit(unit)
    return panel.height(8).span(width).calculate(False).y_axis(axis).targets([target])


def board(uid: str, title: str, description: str, of: str = "model_requests_total") -> dashboard.Dashboard:
    """Return an empty dashboard with variables and links; the metric ``of`` has the models and versions to choose."""
    links = dashboard.DashboardLink("Marloop").type(DashboardLinkType.DASHBOARDS).tags([TAG])
    return (
        dashboard.Dashboard(title)
        .uid(uid)
        .description(description)
        .tags([TAG])
        .refresh("10s")
        .time("now-30m", "now")
        .timezone("browser")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .link(links.include_vars(True).keep_time(True))
        .with_variable(_variable("model", f"label_values({of}, model)"))
        .with_variable(_variable("version", f'label_values({of}{{model=~"$model"}}, version)'))
    )


def with_rows(builder: dashboard.Dashboard, rows: Mapping[str, Sequence[Panel]]) -> dashboard.Dashboard:
    """Return the dashboard with rows of panels, each under its title."""
    for title, panels in rows.items():
        builder = builder.with_row(dashboard.Row(title))
        for panel in panels:
            builder = builder.with_panel(panel)
    return builder


def _variable(name: str, values: str) -> dashboard.QueryVariable:
    return (
        dashboard.QueryVariable(name)
        .label(name.capitalize())
        .datasource(SOURCE)
        .query({"query": values, "refId": f"{name}-values"})
        .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(VariableSort.ALPHABETICAL_ASC)
        .multi(True)
        .include_all(True)
        .all_value(".+")
        .current(VariableOption(selected=True, text=["All"], value=["$__all"]))
    )


def _stat(
    title: str, description: str, target: prometheus.Dataquery, steps: Sequence[tuple[float, str]], width: int
) -> stat.Panel:
    colors = [Threshold(color="green", value=None), *(Threshold(color=color, value=value) for value, color in steps)]
    return (
        stat.Panel()
        .title(title)
        .description(description)
        .datasource(SOURCE)
        .height(4)
        .span(width)
        .color_mode(BigValueColorMode.VALUE)
        .graph_mode(BigValueGraphMode.NONE)
        .thresholds(dashboard.ThresholdsConfig().mode(ThresholdsMode.ABSOLUTE).steps(colors))
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(target)
    )
