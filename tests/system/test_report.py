"""A report is one file that says what it was given, safely, and is there whole or not at all."""

import re
from html.parser import HTMLParser

import pandas as pd
import pytest
from matplotlib.figure import Figure

from mlops_course.system import report


def drawn() -> Figure:
    figure = Figure()
    figure.subplots().plot([1, 2, 3])
    return figure


@pytest.fixture(scope="module")
def page():
    table = pd.DataFrame({"carrier": ["<b>AA</b>", None], "rows": [2, 3]})
    section = report.Section("A & B", text="One.\n\nTwo.", tables={"Rows": table}, figures={"It rises": drawn()})
    return report.render("Week 14", [section], lead="As of then")


def test_nothing_is_fetched_and_nothing_is_run(page):
    assert not re.search(r"<(script|link|iframe|img)\b|\bsrc=|@import|url\((?!#)", page)
    linked = re.findall(r'(?:xlink:)?href="([^"]*)"', page)
    assert all(address.startswith("#") for address in linked)


def test_values_are_text_and_never_markup(page):
    assert "&lt;b&gt;AA&lt;/b&gt;" in page
    assert "<b>AA" not in page


def test_every_tag_that_opens_closes(page):
    opened = []

    class Balance(HTMLParser):
        def handle_starttag(self, tag, attrs):
            if tag not in {"meta", "br"}:
                opened.append(tag)

        def handle_endtag(self, tag):
            assert opened.pop() == tag

    Balance().feed(page)
    assert opened == []


def test_a_figure_says_its_finding_to_those_who_cannot_see_it(page):
    assert 'aria-label="It rises"' in page
    assert page.count("<svg") == 1


def test_a_page_replaces_the_one_before_and_leaves_nothing_else(tmp_path):
    report.write("old", tmp_path / "reports" / "page.html")
    written = report.write("new", tmp_path / "reports" / "page.html")
    assert written.read_text(encoding="utf-8") == "new"
    assert [path.name for path in written.parent.iterdir()] == ["page.html"]
