"""The live page tells all of a state, whatever is in it and whatever is missing, and loads nothing from anywhere."""

import base64
import copy
import hashlib
import json
import math
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlops_course.operations.monitoring import dashboard

HOSTILE = '<img src=x onerror="alert(1)">\'&'
NOW = datetime(2024, 5, 15, 8, 30, tzinfo=UTC)


def day(number):
    return f"{datetime(2024, 4, 1, tzinfo=UTC) + timedelta(days=number):%Y-%m-%d}"


def feature(name, psi, **measures):
    facts = {"ks": 0.111, "js": 0.222, "wasserstein": 3.333, "missing": 0.04, "missing_rise": 0.031}
    return {"feature": name, "psi": psi, **facts, "unknown": None, "out_of_range": 0.07, "alarm": False, **measures}


def alert(kind, subject, cost, **facts):
    usual = {
        "measure": "level",
        "value": 24.1,
        "usual": 75.4,
        "threshold": 9.8,
        "slice": "",
        "text": f"{subject} moved",
    }
    first = {"first_step": f"Look at {subject}.", "since": day(40), "until": None}
    return {"kind": kind, "subject": subject, "cost": cost, **usual, **first, **facts}


def week(number, **facts):
    estimated = {"estimated_log_loss": 0.512, "estimated_log_loss_low": 0.456, "estimated_log_loss_high": 0.567}
    cost = {"estimated_cost": 8.12, "estimated_cost_low": 7.34, "estimated_cost_high": 9.45, "cost": 8.76}
    return {"start": day(7 * number), "rows": 6500, "labelled": 0.97, "log_loss": 0.523, **estimated, **cost, **facts}


STATE = {
    "title": "orders that come back",
    "now": NOW.isoformat(),
    "unit": "EUR per order",
    "champion": {"version": 3, "since": day(31), "trained_on": "January to March"},
    "trial": {"version": 4, "mode": "canary", "share": 0.15, "note": "411 answers"},
    "traffic": [
        {"day": day(n), "rows": 900 + n, "positive_rate": 0.2 + n / 1000, "latency_p95_ms": 3.1} for n in range(44)
    ],
    "drift": {
        "reference": "the training sample",
        "days": 7,
        "warning": 0.12,
        "alert": 0.27,
        "features": [feature("heat", 0.31), feature("wind", 0.18, alarm=True), feature("maker", 0.05, unknown=0.02)],
    },
    "performance": [
        week(0),
        week(1),
        week(2, labelled=0.35),
        week(3, log_loss=None, cost=None, labelled=0.0, estimated_log_loss=0.555),
    ],
    "slices": [
        {
            "slice": "region",
            "value": "north",
            "rows": 1200,
            "labelled": 0.9,
            "log_loss": 0.498,
            "cost": 7.65,
            "roc_auc": 0.71,
        },
        {
            "slice": "region",
            "value": "south",
            "rows": 1100,
            "labelled": 0.9,
            "log_loss": 0.534,
            "cost": 9.87,
            "roc_auc": 0.69,
        },
    ],
    "alerts": [
        alert("stuck sensor", "wind", 1200.0, slice="region north"),
        alert("label outage", "label", None),
        alert("unit error", "heat", 18400.0),
        alert("silent null", "maker", 300.0, since=day(10), until=day(14)),
    ],
}
EMPTY = {"title": "Orders", "now": NOW.isoformat()}


def changed(state, *path, to):
    """A copy of a state with one value changed."""
    copied = copy.deepcopy(state)
    inner = copied
    for step in path[:-1]:
        inner = inner[step]
    inner[path[-1]] = to
    return copied


def leaves(value, *path):
    """The path of each value in a state."""
    if isinstance(value, dict | list):
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        return [found for step, inner in pairs for found in leaves(inner, *path, step)]
    return [path]


class Page(HTMLParser):
    """The words, tags and attributes of a page; raises AssertionError if a tag is not closed where it should be."""

    ALONE = frozenset({"meta", "link"})

    def __init__(self, page):
        super().__init__()
        self.open, self.words, self.tags = [], [], []
        self.feed(page)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in self.ALONE:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag, f"</{tag}> closes another"

    def handle_data(self, text):
        if not {"style", "script"} & set(self.open):
            self.words.append(text)

    @property
    def text(self):
        return re.sub(r"\s+", " ", " ".join(self.words))

    def of(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]


def text_of(state, **settings):
    return Page(dashboard.live_page(state, **settings)).text


# What it tells


TOLD = {
    "title, as a sentence begins": "Orders that come back",
    "moment": "15 May 2024, 08:30 UTC",
    "champion": "version 3",
    "champion's story": "since 2 May, trained on January to March",
    "trial": "version 4",
    "trial's story": "canary with 15 % of rows: 411 answers",
    "rows": "943",
    "rows a week before": "936 a week before",
    "positive rate": "24 %",
    "positive rate of each day": "21.7 %",
    "latency": "3.1 ms",
    "loss by labels": "0.523",
    "where it comes from": "from 8 Apr on, 97 % labelled",
    "estimate": "from 22 Apr on, 0.456 to 0.567",
    "each week": "0.512 (0.456 to 0.567)",
    "each week's cost": "8.76 8.12 (7.34 to 9.45)",
    "label coverage": "35 %",
    "drift, missing and unseen": "heat 0.31 4 % 7 %",
    "bars of drift": "marks at 0.12 (watch) and 0.27 (shifted)",
    "reference": "The last 7 days against the training sample",
    "all measures": "0.310 0.111 0.222 3.333 4.0 % 3.1 % – 7.0 %",
    "unknown categories": "2.0 %",
    "slice": "region south 1,100 0.534 0.69 9.87",
    "alert": "Stuck sensor in wind, region north wind moved 24.1 75.4 9.8 11 May – 1,200",
    "alert that is over": "Silent null in maker maker moved 24.1 75.4 9.8 11 Apr 15 Apr 300",
    "what to do first, of each": "maker moved. Look at maker.",
}


@pytest.mark.parametrize("words", TOLD.values(), ids=TOLD)
def test_what_the_state_knows_is_on_the_page(words):
    assert words in text_of(STATE)


def test_the_most_expensive_open_alert_stands_first_with_what_to_do_and_what_it_could_cost():
    text = text_of(STATE)
    (_, _, glance) = text.partition("▲ 3 alerts are open")
    names = ["Unit error in heat", "EUR 18,400", "Look at heat.", "Stuck sensor in wind", "EUR 1,200", "Label outage"]
    assert [glance.index(name) for name in names] == sorted(glance.index(name) for name in names)
    assert "what it could cost is not known" in glance


def test_the_tab_says_how_many_alerts_are_open():
    assert "<title>(3) Orders" in dashboard.live_page(STATE)


def test_what_stands_beside_an_alert_is_not_said_twice():
    told = f"unit error: level of heat went to 24.1, since {day(40)}"
    text = text_of(STATE | {"alerts": [alert("unit error", "heat", 1.0, text=told)]})
    assert "Unit error in heat level of heat went to 24.1, open for 4 days: a week could cost EUR 1." in text


def test_one_open_alert_is_told_in_the_singular():
    assert "▲ 1 alert is open" in text_of(STATE | {"alerts": STATE["alerts"][:1]})


def test_without_open_alerts_all_is_quiet_and_the_last_one_is_named():
    earlier = alert("silent null", "heat", 1.0, since=day(2), until=day(4))
    text = text_of(STATE | {"alerts": [STATE["alerts"][3], earlier]})
    assert "✓ All quiet" in text
    assert "The last alert was over on 15 Apr: Silent null in maker. 1 of 3 features has moved away" in text


def test_features_with_an_alarm_stand_first_and_then_the_most_drifted():
    text = text_of(STATE)
    (_, _, drift) = text.partition("What has moved")
    assert drift.index("wind ▲ alarm") < drift.index("heat") < drift.index("maker")


def test_what_does_not_fit_folds_away_and_alarms_never_do():
    features = [feature(f"f{n}", 1 / (n + 1), alarm=n >= 3) for n in range(30)]
    page = dashboard.live_page(changed(STATE, "drift", "features", to=features))
    assert "3 more, none over PSI 1.00" in Page(page).text
    (shown, _, folded) = page.partition('<details id="features">')
    assert all(f">f{n} " in shown for n in range(3, 30))
    assert all(f">f{n} " in folded for n in range(3))


def test_slices_with_few_labels_do_not_stand_first_by_chance():
    lucky = {
        "slice": "region",
        "value": "islet",
        "rows": 60,
        "labelled": 0.5,
        "log_loss": 9.9,
        "cost": 60.0,
        "roc_auc": 0.1,
    }
    (_, _, slices) = text_of(STATE | {"slices": [lucky, *STATE["slices"]]}).partition("By slice")
    assert slices.index("south") < slices.index("north") < slices.index("islet")


def test_the_last_loss_by_labels_is_of_a_week_with_nearly_all_labels():
    weeks = [week(0, log_loss=0.611), week(1, log_loss=0.722, labelled=0.4)]
    assert "Log loss by labels 0.611 from 1 Apr on, 97 % labelled" in text_of(STATE | {"performance": weeks})
    assert "Log loss by labels 0.722" in text_of(STATE | {"performance": weeks[1:]})


def test_today_is_not_compared_with_a_whole_day():
    text = text_of(STATE | {"now": f"{day(43)}T09:00:00+00:00"})
    assert "Rows on 14 May, so far 943 Decided" in text


# Whatever is missing


QUIET = {
    "alerts": "No alert so far.",
    "traffic": "No traffic yet.",
    "performance": "no labels yet",
    "slices": "No labels yet, so no slice can be judged.",
    "drift": "No whole day has been seen yet.",
    "champion": "Champion none",
    "trial": "On trial nothing",
    "unit": "a row",
}


@pytest.mark.parametrize(("name", "words"), QUIET.items(), ids=QUIET)
@pytest.mark.parametrize("how", ["left out", "none", "empty"])
def test_a_part_that_is_not_there_yet_reads_well(name, words, how):
    without = {key: value for key, value in STATE.items() if key != name}
    empty = {"left out": {}, "none": {name: None}, "empty": {name: type(STATE[name])()}}[how]
    assert words in text_of(without | empty)


def test_before_the_first_prediction_the_page_waits():
    text = text_of(EMPTY)
    assert "Waiting No traffic yet." in text
    assert not re.search(r"None|nan|Undefined", text)


NEEDED = {"title", "now", "day", "start", "rows", "feature", "kind", "since", "slice", "value", "warning"}
UNKNOWN = [path for path in leaves(changed(STATE, "traffic", to=STATE["traffic"][-9:])) if path[-1] not in NEEDED]
UNKNOWN = [path for path in UNKNOWN if path not in (("trial", "version"), ("drift", "alert")) and path[0] != "unit"]


@pytest.mark.parametrize("path", [*UNKNOWN, ("alerts", 0, "value")], ids=lambda path: ".".join(map(str, path)))
def test_an_unknown_value_is_a_dash_or_left_out(path):
    short = changed(STATE, "traffic", to=STATE["traffic"][-9:])
    page = Page(dashboard.live_page(changed(short, *path, to=None)))
    shown = page.text + json.dumps([attributes for _, attributes in page.tags if attributes])
    assert not re.search(r"\bNone\b|\bnan\b|Undefined", shown)


def test_a_day_without_a_rate_leaves_a_gap_in_the_line():
    def lines(state):
        paths = Page(dashboard.live_page(state)).of("path")
        return [path["d"].count("M") for path in paths if path["class"] == "line"]

    whole, broken = lines(STATE), lines(changed(STATE, "traffic", 20, "positive_rate", to=None))
    assert sum(broken) == sum(whole) + 1


# Whatever is in it


def poisoned(value, key=""):
    """A state with markup wherever it holds text that is no moment."""
    if isinstance(value, dict):
        return {name: poisoned(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, key) for inner in value]
    moment = key in ("now", "since", "until", "day", "start")
    return value + HOSTILE if isinstance(value, str) and not moment else value


def test_markup_in_a_value_is_text():
    page = dashboard.live_page(poisoned(STATE))
    assert "<img" not in page
    assert [attributes for _, attributes in Page(page).tags if any(name.startswith("on") for name in attributes)] == []
    assert f"heat{HOSTILE}" in Page(page).text


@pytest.mark.parametrize("state", [STATE, EMPTY, poisoned(STATE)], ids=["full", "empty", "hostile"])
@pytest.mark.parametrize("settings", [{}, {"refresh_seconds": None}, {"at": NOW + timedelta(days=2)}], ids=str)
def test_each_tag_is_closed_and_each_name_is_used_once(state, settings):
    names = [
        attributes["id"] for _, attributes in Page(dashboard.live_page(state, **settings)).tags if "id" in attributes
    ]
    assert len(names) == len(set(names))


def test_the_page_names_no_place_to_load_from_and_forbids_all():
    page = dashboard.live_page(STATE)
    attributes = [one for _, one in Page(page).tags]
    places = {one[name] for one in attributes for name in ("src", "href", "action", "data", "srcset") if name in one}
    assert places == {"data:,"}
    assert not re.search(r"https?:|url\(|@import|//[a-z]", page)
    (policy,) = [one["content"] for one in attributes if one.get("http-equiv") == "Content-Security-Policy"]
    assert "default-src 'none'" in policy


def test_the_policy_lets_the_script_of_the_page_run_and_no_other():
    page = dashboard.live_page(STATE)
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}';" in page


def test_a_page_that_is_kept_asks_for_nothing():
    page = dashboard.live_page(STATE, refresh_seconds=None)
    assert "<script" not in page
    assert 'http-equiv="refresh"' not in page


def test_the_same_state_gives_the_same_page_and_stays_as_it_was():
    state = json.loads(json.dumps(STATE))
    assert dashboard.live_page(state) == dashboard.live_page(copy.deepcopy(state))
    assert state == STATE


@pytest.mark.parametrize(
    ("old", "words"), [(timedelta(minutes=16), "16 minutes"), (timedelta(hours=5), "5 hours"), (timedelta(3), "3 days")]
)
def test_an_old_state_is_shown_as_stale(old, words):
    assert f"Stale: nothing new for {words}" in text_of(STATE, at=NOW + old)
    assert "Stale" not in text_of(STATE, at=NOW + timedelta(minutes=14))


def test_every_table_has_a_caption_and_every_picture_says_what_it_shows():
    page = Page(dashboard.live_page(STATE))
    assert len(page.of("table")) == len(page.of("caption")) >= 6
    pictures = [one for one in page.of("div") if one.get("role") == "img"]
    assert len(pictures) == 5
    assert all(one["aria-label"] for one in pictures)
    assert all(one.get("aria-hidden") == "true" for one in page.of("svg"))


@given(
    st.lists(st.tuples(st.integers(0, 10**7), st.floats(0, 1)), min_size=1, max_size=30),
    st.lists(st.lists(st.floats(0, 1e4) | st.none(), min_size=6, max_size=6), min_size=1, max_size=10),
)
def test_no_number_draws_beyond_its_picture(days, weeks):
    names = ["log_loss", "cost", "estimated_log_loss", "estimated_log_loss_low", "estimated_log_loss_high", "labelled"]
    traffic = [{"day": day(n), "rows": rows, "positive_rate": rate} for n, (rows, rate) in enumerate(days)]
    performance = [{"start": day(7 * n), "rows": 1} | dict(zip(names, row, strict=True)) for n, row in enumerate(weeks)]
    for one in performance:
        one["labelled"] = min(one["labelled"] or 0, 1)
    paths = Page(dashboard.live_page(EMPTY | {"traffic": traffic, "performance": performance})).of("path")
    drawn = [float(number) for path in paths for number in re.findall(r"-?\d+(?:\.\d+)?", path["d"])]
    assert all(0 <= number <= 100 for number in drawn)


def test_a_bar_is_as_high_as_its_day_and_zero_has_its_place():
    rows = [100, 50, 0]
    state = EMPTY | {"traffic": [{"day": day(n), "rows": count, "positive_rate": None} for n, count in enumerate(rows)]}
    bars = [path["d"] for path in Page(dashboard.live_page(state)).of("path") if path["class"] == "bar"]
    assert [float(re.search(r"V([\d.]+)H", bar)[1]) for bar in bars] == [0, 50, 100]


def test_a_realised_value_with_few_labels_is_drawn_hollow():
    paths = [path["class"] for path in Page(dashboard.live_page(STATE)).of("path")]
    assert (paths.count("dot"), paths.count("dot hollow")) == (2 * 3 + 2, 2 * 1 + 1)  # in the pictures and in their key


# For other programs


def test_every_feature_and_measure_is_a_gauge():
    drift = {
        (one["feature"], one["measure"]): v for name, _, one, v in dashboard.export(STATE) if name == "monitor_drift"
    }
    measures = ["psi", "ks", "js", "wasserstein", "missing", "missing_rise", "unknown", "out_of_range"]
    told = {(row["feature"], name): row[name] for row in STATE["drift"]["features"] for name in measures}
    assert drift == {key: value for key, value in told.items() if value is not None}


GAUGES = {
    ("monitor_time_seconds",): NOW.timestamp(),
    ("monitor_alerts_open",): 3,
    ("monitor_alerts", "stuck sensor"): 1,
    ("monitor_alerts", "silent null"): 0,
    ("monitor_rows",): 943,
    ("monitor_positive_rate",): 0.243,
    ("monitor_drift_alarm", "wind"): 1,
    ("monitor_drift_alarm", "heat"): 0,
    ("monitor_performance", "log_loss", "realised"): 0.523,
    ("monitor_performance", "log_loss", "estimated"): 0.555,
    ("monitor_performance", "cost", "estimated_low"): 7.34,
    ("monitor_performance", "cost", "estimated_high"): 9.45,
    ("monitor_labelled",): 0.0,
}


@pytest.mark.parametrize(("key", "value"), GAUGES.items(), ids=map(" ".join, GAUGES))
def test_a_gauge_has_the_value_of_the_state(key, value):
    gauges = {(name, *labels.values()): number for name, _, labels, number in dashboard.export(STATE)}
    assert gauges[key] == pytest.approx(value)


def test_gauges_fit_the_format_of_prometheus():
    gauges = dashboard.export(STATE)
    labels = {(name, said, tuple(of)) for name, said, of, _ in gauges}
    assert len(labels) == len({name for name, *_ in labels}), "one help and one set of labels a name"
    assert all(re.fullmatch(r"monitor_[a-z_]+", name) for name, *_ in gauges)
    assert len(gauges) == len({(name, *of.items()) for name, _, of, _ in gauges})
    assert all(isinstance(value, float) and math.isfinite(value) for *_, value in gauges)


def test_of_an_empty_state_only_its_moment_and_no_alert_is_known():
    assert [(name, value) for name, *_, value in dashboard.export(EMPTY)] == [
        ("monitor_time_seconds", NOW.timestamp()),
        ("monitor_alerts_open", 0.0),
    ]


# For notebooks and reports


def test_the_plot_of_alerts_spans_each_from_its_first_to_its_last_day():
    alerts = [alert("unit error", "heat", 1.0, since=day(1), raised=day(3), until=day(5)), alert("other", "wind", 1.0)]
    faults = [{"kind": "unit error", "column": "heat", "start": f"{day(1)}T00:00:00+00:00", "end": day(5)}]
    (axes,) = dashboard.plot_alerts(alerts, title="Found", until=NOW, faults=faults).axes
    spans = [(b - a).item() for one in axes.collections for ((a, _), (b, _)) in one.get_segments()]
    assert spans == pytest.approx([4, 4, 2, 3 + 8.5 / 24 + 1, 3 + 8.5 / 24 + 1])
    assert [label.get_text() for label in axes.get_yticklabels()] == ["unit error", "other"]


def test_the_plot_of_traffic_has_a_bar_for_each_day():
    rows, rates = dashboard.plot_traffic(pd.DataFrame(STATE["traffic"]), title="More every day").axes
    assert [bar.get_height() for bar in rows.patches] == [one["rows"] for one in STATE["traffic"]]
    assert rates.lines[0].get_ydata() == pytest.approx([100 * one["positive_rate"] for one in STATE["traffic"]])
