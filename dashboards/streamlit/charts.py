"""The page's figures, with Plotly. Pure: from `source.History` to a figure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

import plotly.graph_objects as go
from plotly.subplots import make_subplots
from source import History, Series

COLOURS = {"person": "#2563eb", "vehicle": "#f59e0b"}
OTHER_COLOURS = ("#8b5cf6", "#10b981", "#ec4899", "#64748b")
SEEN_COLOUR = "#14b8a6"
UNSEEN_COLOUR = "rgba(128, 138, 135, 0.22)"
GRID_COLOUR = "rgba(128, 138, 135, 0.22)"
NAMES = {"person": "Persons", "vehicle": "Vehicles"}
HEIGHT_PX = 390
LINE_HEIGHT_PX = 190


def ordered(classes: Sequence[str]) -> list[str]:
    """Persons first, vehicles second, the others by name."""
    first = list(COLOURS)
    return sorted(set(classes), key=lambda cls: (first.index(cls) if cls in first else len(first), cls))


def colour(cls: str, place: int) -> str:
    """The colour of a class; `place` among all classes."""
    return COLOURS.get(cls, OTHER_COLOURS[place % len(OTHER_COLOURS)])


def name(cls: str) -> str:
    """How a class is called on the page."""
    return NAMES.get(cls, cls.capitalize())


def unseen_spans(history: History) -> list[tuple[datetime, datetime]]:
    """Stretches of buckets of which nothing was seen, joined."""
    spans: list[tuple[datetime, datetime]] = []
    for at, share in zip(history.times, history.coverage, strict=True):
        if share > 0:
            continue
        if spans and at <= spans[-1][1]:
            spans[-1] = (spans[-1][0], at + history.step)
        else:
            spans.append((at, at + history.step))
    return spans


def counts_figure(history: History, zone: str = "") -> go.Figure:
    """Mean objects per class with gaps where nothing was seen, over a strip that shows how much was."""
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.86, 0.14], vertical_spacing=0.04)
    times = _wall(history.times)
    for place, cls in enumerate(ordered([cls for cls, its_zone in history.series if its_zone == zone])):
        line = history.series[cls, zone]
        figure.add_trace(
            go.Scatter(
                x=times,
                y=line.mean,
                customdata=_texts(line),
                name=name(cls),
                mode="lines+markers" if _has_lone_points(line) else "lines",
                marker={"size": 5},
                line={"color": colour(cls, place), "width": 2},
                connectgaps=False,
                hovertemplate="%{y:.2f}%{customdata}",
            ),
            row=1,
            col=1,
        )
    figure.add_trace(
        go.Bar(
            x=times,
            y=history.coverage,
            name="Seen",
            marker={"color": SEEN_COLOUR, "line": {"width": 0}},
            showlegend=False,
            hovertemplate="%{y:.0%}",
            offset=0,
            width=history.step.total_seconds() * 1000,
        ),
        row=2,
        col=1,
    )
    _shade(figure, history)
    _style(figure, HEIGHT_PX)
    figure.update_yaxes(rangemode="tozero", row=1, col=1, nticks=6)
    figure.update_yaxes(range=[0, 1], tickvals=[0, 1], tickformat=".0%", row=2, col=1, showgrid=False)
    figure.update_xaxes(range=_range(history))
    figure.update_layout(hovermode="x unified", bargap=0)
    return figure


def crossings_figure(history: History) -> go.Figure | None:
    """In upwards and out downwards, a row per line; None when nothing crossed."""
    lines = sorted({point.line for point in history.crossings})
    if not lines:
        return None
    figure = make_subplots(
        rows=len(lines),
        cols=1,
        shared_xaxes=True,
        vertical_spacing=0.22 / len(lines),
        subplot_titles=[_line_title(history, line) for line in lines],
    )
    classes = ordered([point.cls for point in history.crossings])
    in_legend: set[str] = set()
    for row, line in enumerate(lines, start=1):
        for place, cls in enumerate(classes):
            points = [point for point in history.crossings if (point.line, point.cls) == (line, cls)]
            for way, sign in (("in", 1), ("out", -1)):
                amounts = [point.count_in if way == "in" else point.count_out for point in points]
                figure.add_trace(
                    go.Bar(
                        x=_wall([point.time.astimezone(history.times[0].tzinfo) for point in points]),
                        y=[sign * amount for amount in amounts],
                        customdata=amounts,
                        name=name(cls),
                        legendgroup=cls,
                        showlegend=bool(points) and cls not in in_legend,
                        marker={"color": colour(cls, place), "line": {"width": 0}},
                        opacity=1.0 if way == "in" else 0.6,
                        offset=0,
                        width=history.step.total_seconds() * 900,
                        hovertemplate=f"%{{customdata}} {way}",
                    ),
                    row=row,
                    col=1,
                )
                in_legend |= {cls} if points else set()
    _style(figure, 100 + LINE_HEIGHT_PX * len(lines))
    # Below: above them it would meet the title of the first line on a narrow screen.
    below = {"yref": "container", "y": 0, "yanchor": "bottom"}
    figure.update_layout(barmode="relative", hovermode="x unified", legend=below, margin={"b": 60})
    figure.update_xaxes(range=_range(history))
    ticks = both_ways(history)
    figure.update_yaxes(tickvals=ticks, ticktext=[str(abs(tick)) for tick in ticks])
    figure.update_yaxes(zeroline=True, zerolinecolor="rgba(128, 138, 135, 0.8)")
    figure.update_annotations(x=0, xanchor="left", font={"size": 13})
    return figure


def both_ways(history: History) -> list[int]:
    """Ticks up for in and down for out, two or three round numbers each way."""
    sums: dict[tuple[datetime, str, int], int] = {}
    for point in history.crossings:
        for sign, amount in ((1, point.count_in), (-1, point.count_out)):
            key = (point.time, point.line, sign)
            sums[key] = sums.get(key, 0) + amount
    most = max(sums.values(), default=1)
    step = next(n * 10**power for power in range(9) for n in (1, 2, 5) if n * 10**power * 3 >= most)
    return [place * step for place in range(-3, 4)]


def _line_title(history: History, line: str) -> str:
    points = [point for point in history.crossings if point.line == line]
    total_in, total_out = sum(p.count_in for p in points), sum(p.count_out for p in points)
    return f"<b>{line}</b>   ↑ {total_in} in   ↓ {total_out} out"


def _shade(figure: go.Figure, history: History) -> None:
    starts_and_ends = unseen_spans(history)
    for start, end in starts_and_ends:
        x0, x1 = _wall([start, end])
        figure.add_vrect(x0=x0, x1=x1, fillcolor=UNSEEN_COLOUR, line_width=0, layer="below", row=1, col=1)
    if starts_and_ends:
        figure.add_trace(
            go.Scatter(
                x=[None],
                y=[None],
                mode="markers",
                name="Not observed",
                marker={"symbol": "square", "size": 12, "color": UNSEEN_COLOUR},
                hoverinfo="skip",
            ),
            row=1,
            col=1,
        )


def _style(figure: go.Figure, height_px: int) -> None:
    figure.update_layout(
        height=height_px,
        margin={"l": 8, "r": 8, "t": 34, "b": 8},
        legend={"orientation": "h", "x": 0, "y": 1.0, "yanchor": "bottom"},
        paper_bgcolor="rgba(0, 0, 0, 0)",
        plot_bgcolor="rgba(0, 0, 0, 0)",
        uirevision="keep",
    )
    figure.update_xaxes(showgrid=False, fixedrange=False)
    figure.update_yaxes(gridcolor=GRID_COLOUR, fixedrange=True, automargin=True)


def _range(history: History) -> list[datetime]:
    return _wall([history.times[0], history.times[-1] + history.step])


def _wall(times: Sequence[datetime]) -> list[datetime]:
    """The camera's wall clock: Plotly would turn aware times into UTC."""
    return [at.replace(tzinfo=None) for at in times]


def _texts(line: Series) -> list[str]:
    return [
        "" if least is None else f" mean ({least}–{most})"
        for least, most in zip(line.least, line.most, strict=True)
    ]


def _has_lone_points(line: Series) -> bool:
    """A seen bucket between two unseen ones draws no line: it needs a marker. So do few buckets."""
    known = [None, *line.mean, None]
    lone = any(
        known[place] is not None and known[place - 1] is None and known[place + 1] is None
        for place in range(1, len(known) - 1)
    )
    return lone or len(line.mean) <= 40
