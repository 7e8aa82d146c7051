"""One self-contained HTML page out of text, tables and figures: no script, no request, opens anywhere.

    Section     a heading with text, tables and figures below it
    render      sections into the HTML of a page
    write       a page onto disk, whole or not at all

>>> import pandas as pd
>>> page = render("Week 14", [Section("Rows", text="All of them.", tables={"By day": pd.DataFrame({"rows": [3]})})])
>>> "<h2>Rows</h2>" in page, "<script" in page
(True, False)
"""

from .page import Section, render, write

__all__ = ["Section", "render", "write"]
