"""One self-contained HTML page out of text, tables and figures: no script, no request, opens anywhere.

    Section     a heading with text, tables and figures below it
    render      sections into the HTML of a page
    write       a page onto disk, whole or not at all

>>> page = render("Week 14", [Section("Rows", text="All of them.", tables={"By day": pd.DataFrame({"rows": [3]})})])
>>> "<h2>Rows</h2>" in page, "<script" in page
(True, False)
"""

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import jinja2
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Section", "render", "write"]

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
body { font: 16px/1.55 system-ui, sans-serif; color: #1b1f24; background: #fff; max-width: 62rem; margin: 0 auto;
       padding: 2rem 1.2rem 5rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin-bottom: .3rem; }
h2 { font-size: 1.3rem; margin-top: 2.6rem; padding-top: .9rem; border-top: 1px solid #d9dee4; }
p { max-width: 44rem; }
.lead { color: #59636e; margin-top: 0; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: .88rem; font-variant-numeric: tabular-nums; margin: .4rem 0 1.4rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { text-align: right; padding: .28rem .8rem .28rem 0; border-bottom: 1px solid #e6eaee; vertical-align: top; }
th { color: #59636e; font-weight: 600; }
td.text, th.text { text-align: left; }
figure { margin: 1rem 0 1.6rem; }
figure svg { max-width: 100%; height: auto; }
figcaption { color: #59636e; font-size: .88rem; }
</style>
</head>
<body>
<h1>{{ title }}</h1>
<p class="lead">{{ lead }}</p>
{% for section in sections %}
<section>
<h2>{{ section.title }}</h2>
{% for paragraph in section.text.split("\n\n") if paragraph %}<p>{{ paragraph }}</p>
{% endfor %}
{% for caption, table in section.tables.items() %}<div class="scroll"><table>
<caption>{{ caption }}</caption>
<thead><tr>{% for name, kind in table.header %}<th class="{{ kind }}">{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in table.rows %}<tr>{% for value, kind in row %}<td class="{{ kind }}">{{ value }}</td>{% endfor %}</tr>
{% endfor %}</tbody>
</table></div>
{% endfor %}
{% for caption, drawing in section.figures.items() %}<figure role="img" aria-label="{{ caption }}">
{{ drawing | safe }}
<figcaption>{{ caption }}</figcaption>
</figure>
{% endfor %}
</section>
{% endfor %}
</body>
</html>
"""


@dataclass(frozen=True)
class Section:
    """A heading with what belongs below it: paragraphs (split at empty lines), tables and figures by their captions."""

    title: str
    text: str = ""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, "Figure"] = field(default_factory=dict)


def render(title: str, sections: Sequence[Section], *, lead: str = "") -> str:
    """The HTML of a page, with every figure drawn into it as SVG.

    Captions are read aloud in place of figures, so they should state the finding. Text is escaped; numbers are shown as
    they are, so round them before.
    """
    drawn = [
        {
            "title": section.title,
            "text": section.text,
            "tables": {caption: _cells(table) for caption, table in section.tables.items()},
            "figures": {caption: _svg(figure) for caption, figure in section.figures.items()},
        }
        for section in sections
    ]
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(PAGE).render(title=title, lead=lead, sections=drawn)


def write(page: str, path: Path) -> Path:
    """Write a page to `path` and return it. A reader finds the old page or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path


def _cells(table: pd.DataFrame) -> dict[str, list]:
    kinds = ["" if pd.api.types.is_numeric_dtype(dtype) else "text" for dtype in table.dtypes]
    rows = [["" if pd.isna(value) else str(value) for value in row] for row in table.itertuples(index=False)]
    return {
        "header": list(zip(table.columns, kinds, strict=True)),
        "rows": [list(zip(row, kinds, strict=True)) for row in rows],
    }


def _svg(figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    drawing = buffer.getvalue()
    return drawing[drawing.index("<svg") :]
