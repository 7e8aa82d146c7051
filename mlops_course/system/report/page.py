"""The template of a page, filled and written."""

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
    template = Path(__file__).with_name("page.html.j2").read_text(encoding="utf-8")
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, undefined=jinja2.StrictUndefined)
    return environment.from_string(template).render(title=title, lead=lead, sections=drawn)


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
