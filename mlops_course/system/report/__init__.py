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
from typing import TYPE_CHECKING, Any

import jinja2
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["Section", "render", "write"]


@dataclass(frozen=True)
class Section:
    """A heading with what belongs below it: paragraphs (split at empty lines), tables and figures by their captions."""

    title: str
    text: str = ""
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)
    figures: Mapping[str, "Figure"] = field(default_factory=dict)


def render(title: str, sections: Sequence[Section], *, lead: str = "") -> str:
    """Return the HTML of a page, with every figure drawn into it as SVG.

    Captions are read aloud in place of figures, so they should state the finding. Text is escaped; numbers are shown as
    they are, so round them before.
    """
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    environment.filters |= {"kind": _kind, "svg": _svg}
    environment.tests["missing"] = pd.isna
    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    return environment.from_string(template).render(title=title, lead=lead, sections=sections)


def write(page: str, path: Path) -> Path:
    """Write a page to `path` and return it. A reader finds the old page or the new one, never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(page, encoding="utf-8")
    os.replace(partial, path)
    return path


def _kind(dtype: Any) -> str:
    """The CSS class of a column."""
    return "" if pd.api.types.is_numeric_dtype(dtype) else "text"


def _svg(figure: "Figure") -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", bbox_inches="tight", metadata={"Date": None})
    drawing = buffer.getvalue()
    return drawing[drawing.index("<svg") :]
