"""Draw in CONTRIBUTING.md which folder of the package imports which, read from the code.

    python tools/drawing.py

The first drawing holds the folders of the package, the second the parts of `system`. In both an arrow is left out where
a longer way leads to the same place. A test proves that they are current, and that no arrow closes a circle.
"""

import ast
import re
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "mlops_course"
PAGE = ROOT / "CONTRIBUTING.md"
DRAWN = re.compile(r"(?<=<!-- drawn by `make drawing` -->\n).*?(?=<!-- end of the drawing -->)", re.DOTALL)


@cache
def imports(file: Path) -> set[str]:
    """What a file imports of the package, in dots below it: `development.data.known_at`."""
    folder = ("mlops_course", *file.relative_to(PACKAGE).parent.parts)
    dotted = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            dotted |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = folder[: len(folder) - node.level + 1] if node.level else ()
            dotted |= {".".join([*base, *filter(None, [node.module]), alias.name]) for alias in node.names}
    return {name.removeprefix("mlops_course.") for name in dotted if name.startswith("mlops_course.")}


def graph(top: Path) -> dict[str, set[str]]:
    """Which of the parts right below a folder imports which other ones; a part is a folder or a file."""
    inside = {path.stem for path in top.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    parts = inside - {"__init__", "__main__"}
    prefix = ".".join((*top.relative_to(PACKAGE).parts, ""))
    found = {part: set() for part in sorted(parts)}
    for file in sorted(top.rglob("*.py")):
        part = file.relative_to(top).parts[0].removesuffix(".py")
        names = {name.removeprefix(prefix).split(".")[0] for name in imports(file) if name.startswith(prefix)}
        if part in parts:
            found[part] |= (names & parts) - {part}
    return found


def shortest(arrows: dict[str, set[str]]) -> list[tuple[str, str]]:
    """The arrows that do not follow from others. Raises graphlib.CycleError if parts import each other in a circle."""
    below: dict[str, set[str]] = {}
    for part in TopologicalSorter(arrows).static_order():
        below[part] = arrows[part].union(*(below[other] for other in arrows[part]))
    return [
        (part, other)
        for part in arrows
        for other in sorted(arrows[part])
        if not any(other in below[between] for between in arrows[part])
    ]


def drawing() -> str:
    """Both drawings in Mermaid, as they stand in the page."""
    lines = []
    for top in (PACKAGE, PACKAGE / "system"):
        arrows = [f"    {part} --> {other}" for part, other in shortest(graph(top))]
        lines += ["```mermaid", "flowchart TD", *arrows, "```", ""]
    return "\n".join(["", *lines])


if __name__ == "__main__":
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(DRAWN.sub(lambda _: drawing(), page), encoding="utf-8", newline="\n")
    print(PAGE.relative_to(ROOT))
