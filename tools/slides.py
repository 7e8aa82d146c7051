"""Make slides from the lessons: one HTML file each, which needs neither network nor server.

    python tools/slides.py [--into FOLDER] [NUMBER ...]     all lessons, into build/slides

What a room looks at is on the slides: headings, the question, tables, code beside what it prints, plots. What a teacher
says is below them as notes, which `n` shows and hides. nbconvert draws the cells; this file only deals them out. For a
PDF print from the browser, a slide a page.
"""

import argparse
import re
from dataclasses import dataclass, field
from pathlib import Path

import nbformat
from jinja2 import Environment, FileSystemLoader
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from nbformat.v4 import new_markdown_cell, new_notebook
from pygments.formatters import HtmlFormatter

ROOT = Path(__file__).parents[1]
TEMPLATE = "slides.html.j2"  # beside this file
LEFT_OUT = {"References"}  # sections that nobody reads aloud
WHOLE = re.compile(r"```.*?```|<details>.*?</details>", re.DOTALL)  # one paragraph, whatever it holds
MAP = re.compile(r"```mermaid\n(.*?)```", re.DOTALL)
BOX, LIT = re.compile(r"(\w+)\[([^\]]+)\]"), re.compile(r"^\s*class ([\w,]+) here", re.MULTILINE)
SHOWN = re.compile(r"\||[-*>] |```|\d+\. |<p ")  # how a paragraph begins that is always shown
LETTERS = 1_400  # of Markdown and code that fit a slide together


@dataclass
class Slide:
    """What a room sees at once, and what is said with it."""

    title: str
    cells: list[NotebookNode] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # paragraphs of Markdown


def slides(notebook: NotebookNode) -> list[Slide]:
    """The slides of a lesson, in its order: one for each heading, each cell of code and each question at its end.

    Of the words under a heading the first paragraph is shown, and so are tables, lists and quotations wherever they
    stand. Other words are notes of the slide before them.
    """
    made: list[Slide] = []
    for cell in notebook.cells:
        if cell.cell_type == "code":
            if is_full(made[-1], cell.source):
                made.append(Slide(made[-1].title))
            made[-1].cells.append(cell)
            continue
        for paragraph in paragraphs(MAP.sub(lifecycle, cell.source)):
            if paragraph.startswith("#"):
                made.append(Slide(paragraph.lstrip("# ")))
            elif made[-1].cells and not SHOWN.match(paragraph):
                made[-1].notes.append(paragraph)
            else:
                if made[-1].cells and is_full(made[-1], paragraph):
                    made.append(Slide(made[-1].title))
                made[-1].cells.append(new_markdown_cell(paragraph))
    return [slide for slide in made if slide.cells and slide.title not in LEFT_OUT]


def is_full(slide: Slide, source: str) -> bool:
    """Whether a cell or paragraph needs a slide of its own: after code, as a question, or where no room is left."""
    if any(cell.cell_type == "code" for cell in slide.cells) or "<details>" in source:
        return True
    return bool(slide.cells) and len("".join(cell.source for cell in slide.cells) + source) > LETTERS


def paragraphs(source: str) -> list[str]:
    """Paragraphs of Markdown; a fenced block, or what is folded away with its question, is one whatever it holds."""
    wholes = WHOLE.findall(source)
    parts = WHOLE.sub("\0", source).split("\n\n")
    rest = iter(wholes)
    return [re.sub("\0", lambda _: next(rest), part).strip() for part in parts if part.strip()]


def lifecycle(found: re.Match) -> str:
    """The map of a lesson as a line of boxes, this lesson's part lit: a browser cannot draw Mermaid without network."""
    lit = LIT.search(found[1])[1].split(",")
    boxes = (f"<span{' class=here' * (name in lit)}>{label}</span>" for name, label in BOX.findall(found[1]))
    return f'<p class="map">{" → ".join(boxes)}</p>'


def page(path: Path) -> str:
    """The slides of the lesson in a file as one page of HTML."""
    draw = HTMLExporter(template_name="basic", exclude_input_prompt=True, exclude_output_prompt=True)

    def html(cells: list[NotebookNode]) -> str:
        return draw.from_notebook_node(new_notebook(cells=cells))[0]

    made = slides(nbformat.read(path, as_version=4))
    shown = [
        {
            "title": slide.title,
            "body": html(slide.cells),
            "notes": html([new_markdown_cell("\n\n".join(slide.notes))]) if slide.notes else "",
        }
        for slide in made
    ]
    template = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True).get_template(TEMPLATE)
    style = HtmlFormatter(style="friendly").get_style_defs(".highlight")
    return template.render(title=made[0].title, slides=shown, highlight=style)


def main(numbers: list[str], into: Path) -> None:
    found = {path.name[:2]: path for path in sorted((ROOT / "notebooks").glob("*.ipynb"))}
    if unknown := set(numbers) - set(found):
        raise SystemExit(f"expected numbers of lessons, got {', '.join(sorted(unknown))}; there are {', '.join(found)}")
    into.mkdir(parents=True, exist_ok=True)
    for number in numbers or found:
        target = into / f"{found[number].stem}.html"
        target.write_text(page(found[number]), encoding="utf-8", newline="\n")
        print(target)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("numbers", nargs="*", metavar="NUMBER", help="of a lesson, such as 07; all if not given")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "slides", metavar="FOLDER")
    arguments = parser.parse_args()
    main(arguments.numbers, arguments.into)
