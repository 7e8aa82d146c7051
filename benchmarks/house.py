"""The package in figures: files, lines, the longest file and function, crowded signatures, public names.

    python benchmarks/house.py            the checkout
    python benchmarks/house.py a310e81    the commit, beside the checkout

What is counted is Python; the templates of pages and of a starter project stand in a line of their own. Aims: no file
over 350 lines (a check: 400), no function over 60, none with more than six parameters outside the command line, which
`tests/test_architecture.py` holds.
"""

import argparse
import ast
import io
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).parents[1]
FUNCTIONS = ast.FunctionDef | ast.AsyncFunctionDef


def parameters(function: FUNCTIONS) -> int:
    named = function.args.posonlyargs + function.args.args + function.args.kwonlyargs
    return sum(one.arg not in ("self", "cls") for one in named)


def public(tree: ast.Module) -> int:
    """How many names a file lists in `__all__`."""
    lists = [
        node.value
        for node in tree.body
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__"
    ]
    return sum(len(one.elts) for one in lists if isinstance(one, ast.List))


def figures(package: Path) -> dict[str, object]:
    """What stands in the columns of the table, for one tree of the package."""
    texts = {
        path.relative_to(package).as_posix(): path.read_text(encoding="utf-8")
        for path in package.rglob("*")
        if path.suffix in {".py", ".j2", ".jinja", ".css", ".js"}
    }
    lines = {name: len(text.splitlines()) for name, text in texts.items()}
    python = {name: count for name, count in lines.items() if name.endswith(".py") and "template/" not in name}
    trees = {name: ast.parse(texts[name]) for name in python}
    functions = [(name, node) for name, tree in trees.items() for node in ast.walk(tree) if isinstance(node, FUNCTIONS)]
    lengths = {f"{name}: {one.name}": one.end_lineno - one.lineno + 1 for name, one in functions}
    crowded = [one for name, one in functions if parameters(one) > 6 and not name.startswith("commands/")]
    longest, longest_function = max(python, key=python.get), max(lengths, key=lengths.get)
    return {
        "Python files": len(python),
        "lines of Python": sum(python.values()),
        "lines of templates": sum(lines.values()) - sum(python.values()),
        "files over 350 lines": sum(count > 350 for count in python.values()),
        "longest file": f"{python[longest]} ({longest})",
        "functions over 60 lines": sum(count > 60 for count in lengths.values()),
        "longest function": f"{lengths[longest_function]} ({longest_function})",
        "functions over 6 parameters": len(crowded),
        "public names": sum(map(public, trees.values())),
    }


def at(commit: str, folder: Path) -> Path:
    """The package as it was at a commit, unpacked into a folder."""
    archive = subprocess.run(["git", "archive", commit, "mlops_course"], cwd=ROOT, capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as packed:
        packed.extractall(folder, filter="data")
    return folder / "mlops_course"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("commits", nargs="*", help="commits to set beside the checkout")
    columns = {}
    with tempfile.TemporaryDirectory() as home:
        for commit in parser.parse_args().commits:
            columns[commit] = figures(at(commit, Path(home) / commit))
    print(pd.DataFrame({**columns, "checkout": figures(ROOT / "mlops_course")}).to_string())
