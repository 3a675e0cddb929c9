"""The page: one camera's persons and vehicles, with gaps where it was not seen. `streamlit run app.py`.

It reads the database of FRAMEGRID_DATABASE_URL and nothing else, refreshes by itself, and survives the
database's absence. Camera, scale and window are in the page's address, so a view can be shared.
"""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pandas as pd
import streamlit as st
from framegrid_store import read
from framegrid_store.connect import database_url_from_environment
from framegrid_store.errors import StoreError
from periods import SCALES, ScaleChoice, clipped, spoken_age, zone
from source import Headline, History, SourceError, first_shown, headline, history, reader

from charts import counts_figure, crossings_figure, name, ordered

RETRY_S = 3.0
HEADLINE_S = 2.0
# Comments and not docstrings on constants: Streamlit would print those on the page.
STALE_S = 15.0  # a camera sampled once per 5 s is still live after missing one or two frames
CHART_CONFIG = {"displayModeBar": False, "responsive": True}
STYLE = """
<style>
.block-container { padding-top: 1.6rem; padding-bottom: 3rem; max-width: 1180px; }
.st-key-headline { display: grid; grid-template-columns: repeat(auto-fit, minmax(130px, 1fr)); gap: .7rem; }
.st-key-headline > * { width: 100% !important; }
[data-testid="stMetric"] { padding: 0; }
[data-testid="stMetric"] > div { padding: .7rem .9rem; }
[data-testid="stMetricValue"] { font-variant-numeric: tabular-nums; }
[data-testid="stHeader"] { background: transparent; }
@media (max-width: 640px) {
  .block-container { padding: 1rem .8rem 2rem; }
  .st-key-headline { grid-template-columns: repeat(3, 1fr); gap: .5rem; }
  [data-testid="stMetric"] > div { padding: .5rem .6rem; }
  [data-testid="stMetricValue"] { font-size: 1.4rem; }
}
</style>
"""


def main() -> None:
    """Draw the page."""
    st.set_page_config(page_title="Framegrid", page_icon="▦", layout="wide")
    st.html(STYLE)
    try:
        database_url = database_url_from_environment()
        with reader(database_url) as connection:
            cameras = read.cameras(connection)
    except (SourceError, StoreError) as error:
        advice = error.advice if isinstance(error, SourceError) else ""
        _waiting("The numbers are out of reach", f"{error} {advice}")
        return
    if not cameras:
        _waiting(
            "No camera yet",
            "The database is there, and empty. Start ingest with a camera in `cameras.yaml`, or `make demo`; "
            "the first camera appears here by itself.",
            kind="info",
        )
        return
    _page(database_url, cameras)


def _page(database_url: str, cameras: list[read.Camera]) -> None:
    heading, menu = st.columns([3, 2], vertical_alignment="bottom")
    camera = _camera_menu(menu, cameras)
    heading.title(camera.name, anchor=False)
    heading.caption(" · ".join(filter(None, ["Framegrid", camera.site, f"times in {camera.timezone}"])))
    st.fragment(_headline_row, run_every=HEADLINE_S)(database_url, camera, [c.name for c in cameras])
    with st.container(horizontal=True, vertical_alignment="bottom"):
        shown = st.segmented_control(
            "Scale", list(SCALES), default=_asked("scale", list(SCALES), "5 s"), key="scale", required=True
        )
        choice = SCALES[shown or "5 s"]
        live = st.toggle("Live", value=True, key="live", help="Off: choose dates with the slider.")
        window = _window_menu(choice) if live else None
    st.query_params.update({"camera": camera.name, "scale": shown or "5 s"})
    if window is not None:
        for key in [key for key in st.session_state if str(key).startswith("ends ")]:
            del st.session_state[key]
        st.fragment(_live_charts, run_every=choice.refresh_s)(database_url, camera, choice, window)
    else:
        _dated_charts(database_url, camera, choice)


def _camera_menu(place: st.delta_generator.DeltaGenerator, cameras: list[read.Camera]) -> read.Camera:
    names = [camera.name for camera in cameras]
    asked = _asked("camera", names, first_shown(cameras).name)
    picked = place.selectbox("Camera", names, index=names.index(asked), key="camera")
    return next((camera for camera in cameras if camera.name == picked), cameras[0])


def _window_menu(choice: ScaleChoice) -> timedelta:
    labels = list(choice.windows)
    picked = st.segmented_control(
        "Last", labels, default=labels[1], key=f"window {choice.scale}", required=True
    )
    return choice.windows[picked or labels[1]]


def _asked(parameter: str, allowed: list[str], otherwise: str) -> str:
    """What the page's address asks for, when it is possible."""
    asked = st.query_params.get(parameter, otherwise)
    return asked if asked in allowed else otherwise


def _headline_row(database_url: str, camera: read.Camera, known: list[str]) -> None:
    try:
        with reader(database_url) as connection:
            cameras = read.cameras(connection)
            # As it is now: the page's own may be minutes old.
            figures = headline(connection, next((c for c in cameras if c.name == camera.name), camera))
    except SourceError as error:
        st.error(f"{error} {error.advice} Trying again.", icon=":material/cloud_off:")
        return
    if [found.name for found in cameras] != known:
        st.rerun(scope="app")
    paused = any(found.paused for found in cameras if found.name == camera.name)
    _state_line(figures, paused)
    fresh = figures.age_s is not None and figures.age_s < STALE_S
    with st.container(key="headline"):
        for cls in ordered([*figures.counts, "person", "vehicle"]):
            value = f"{figures.counts.get(cls, 0):.0f}" if fresh and cls in figures.counts else "–"
            st.metric(f"{name(cls)} now", value, border=True)
        st.metric("In today", f"{figures.count_in:,}", border=True)
        st.metric("Out today", f"{figures.count_out:,}", border=True)
        seen = "–" if figures.seen_today is None else f"{100 * figures.seen_today:.1f} %"
        st.metric("Seen today", seen, border=True)
        age = "–" if figures.age_s is None else spoken_age(figures.age_s)
        st.metric("Last frame", age, border=True)


def _state_line(figures: Headline, paused: bool) -> None:
    if paused:
        st.badge("paused", icon=":material/pause:", color="gray")
    elif figures.age_s is None:
        st.badge("no frame yet", icon=":material/hourglass_empty:", color="gray")
    elif figures.age_s < STALE_S:
        st.badge(f"live · {figures.model}", icon=":material/sensors:", color="green")
    else:
        st.badge(f"no frame for {spoken_age(figures.age_s)}", icon=":material/videocam_off:", color="orange")


def _live_charts(database_url: str, camera: read.Camera, choice: ScaleChoice, window: timedelta) -> None:
    end = datetime.now(timezone.utc)
    _charts(database_url, camera, choice, end - window, end)


def _dated_charts(database_url: str, camera: read.Camera, choice: ScaleChoice) -> None:
    local = zone(camera.timezone)
    # Kept while live is off: a slider whose ends move forgets what was picked.
    first, last = st.session_state.setdefault(f"ends {camera.name} {choice.scale}", _ends(camera, choice))
    # Wall-clock times: the slider turns aware ones into the server's own zone.
    picked = st.slider(
        "From – to",
        min_value=first.replace(tzinfo=None),
        max_value=last.replace(tzinfo=None),
        value=((last - list(choice.windows.values())[1]).replace(tzinfo=None), last.replace(tzinfo=None)),
        step=max(timedelta(minutes=1), choice.step),
        format="D MMM YYYY, HH:mm",
        key=f"dates {camera.name} {choice.scale} {last}",
    )
    start, end = (at.replace(tzinfo=local) for at in picked)
    if start >= end:
        st.info("Pull the two ends of the slider apart.", icon=":material/date_range:")
        return
    start, moved = clipped(start, end, choice)
    if moved:
        st.caption(
            f"At this scale the last {spoken_age(choice.longest.total_seconds())} of the range are shown."
        )
    _charts(database_url, camera, choice, start, end)


def _ends(camera: read.Camera, choice: ScaleChoice) -> tuple[datetime, datetime]:
    """The first and last moment to choose from, whole minutes in the camera's zone."""
    local = zone(camera.timezone)
    last = (camera.last_seen_at or datetime.now(timezone.utc)).astimezone(local)
    first = min(camera.created_at.astimezone(local), last - max(choice.windows.values()))
    return tuple(at.replace(second=0, microsecond=0) for at in (first, last + timedelta(minutes=1)))


def _charts(
    database_url: str, camera: read.Camera, choice: ScaleChoice, start: datetime, end: datetime
) -> None:
    try:
        with reader(database_url) as connection:
            found = history(connection, camera, choice, start, end)
    except SourceError as error:
        st.error(f"{error} {error.advice}", icon=":material/cloud_off:")
        return
    area = ""
    zones = sorted({its_zone for _, its_zone in found.series if its_zone})
    with st.container(border=True):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.subheader(f"Persons and vehicles, mean per {choice.label}", anchor=False, width="content")
            if zones:
                labels = {"": "Whole picture", **{its_zone: f"Zone {its_zone}" for its_zone in zones}}
                area = st.selectbox(
                    "Zone",
                    list(labels),
                    format_func=labels.__getitem__,
                    key="zone",
                    width=200,
                    label_visibility="collapsed",
                )
        if not found.series:
            st.info("Nothing was observed in this range.", icon=":material/visibility_off:")
        st.plotly_chart(counts_figure(found, area), config=CHART_CONFIG, key="counts")
    with st.container(border=True):
        st.subheader(f"Counted in and out, per {choice.label}", anchor=False)
        crossed = crossings_figure(found)
        if crossed is None:
            st.caption("Nobody crossed a line in this range, or the camera has no lines.")
        else:
            st.plotly_chart(crossed, config=CHART_CONFIG, key="crossings")
    with st.expander("The numbers", icon=":material/table_rows:"):
        st.dataframe(_table(found, area), hide_index=True)


def _table(found: History, area: str) -> pd.DataFrame:
    table = {"time": [at.replace(tzinfo=None) for at in found.times], "seen": found.coverage}
    for cls in ordered([cls for cls, its_zone in found.series if its_zone == area]):
        table[f"{cls} mean"] = found.series[cls, area].mean
        table[f"{cls} max"] = found.series[cls, area].most
    return pd.DataFrame(table).iloc[::-1]


def _waiting(title: str, text: str, kind: str = "error") -> None:
    """A full-page message that looks again by itself."""
    st.title("Framegrid", anchor=False)
    with st.container(border=True):
        st.subheader(title, anchor=False)
        (st.info if kind == "info" else st.error)(text)
        st.caption(f"Looking again every {RETRY_S:.0f} seconds.")
    first = st.session_state.setdefault("waited", 0)

    @st.fragment(run_every=RETRY_S)
    def look_again() -> None:
        # A fragment's first run is part of the page's own.
        st.session_state["waited"] += 1
        if st.session_state["waited"] > first + 1:
            st.rerun(scope="app")

    look_again()


main()
