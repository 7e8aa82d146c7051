"""Small edits to each solution: how many of them does its check reject, and which does it let through?

    python benchmarks/mutants.py            every lesson with exercises
    python benchmarks/mutants.py 03 12      some of them

An edit swaps an operator, a comparison or two arguments, moves a number by one, negates a condition, takes the opposite
of a method (`min` for `max`), leaves out a keyword, or drops a statement. What survives is either an answer as right as
the solution, listed with the reason in `equivalent_mutants.yaml` beside this file, or a hole in the check. Exits
with 1 if there is a hole.
"""

import ast
import contextlib
import copy
import io
import os
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pandas as pd
import yaml

from mlops_course.course.checks import answers
from mlops_course.course.checks.derivation import BEGIN, END

ROOT = Path(__file__).parents[1]
sys.path.append(str(ROOT / "tools"))

from gaps import Gap, gaps  # noqa: E402 - the tools are no package

EQUIVALENT = Path(__file__).with_name("equivalent_mutants.yaml")  # gap -> edit -> why it changes nothing
SECONDS, TIMES = 3.0, 4  # of processor time for a check, and times that of the solution: then a loop counts as endless

SWAPS = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.And: ast.Or, ast.Or: ast.And,
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.FloorDiv: ast.Div, ast.Mod: ast.Mult,
    ast.Pow: ast.Mult, ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd,
}  # fmt: skip
OPPOSITES = {
    "min": "max", "any": "all", "first": "last", "head": "tail", "le": "lt", "ge": "gt", "idxmin": "idxmax",
    "sum": "mean", "cumsum": "cummax", "isna": "notna", "nsmallest": "nlargest", "floor": "ceil",
    "union": "intersection",
}  # fmt: skip
OPPOSITES |= {right: left for left, right in OPPOSITES.items()}


def edits(node: ast.AST) -> Iterator[ast.AST]:
    """What a node may be replaced by."""

    def changed(**fields: object) -> ast.AST:
        new = copy.copy(node)
        for name, value in fields.items():
            setattr(new, name, value)
        return new

    match node:
        case ast.Compare(ops=[first, *others]) if type(first) in SWAPS:
            yield changed(ops=[SWAPS[type(first)](), *others])
            if isinstance(first, ast.Lt | ast.LtE | ast.Gt | ast.GtE):
                yield changed(ops=[ast.Gt() if isinstance(first, ast.Lt | ast.LtE) else ast.Lt(), *others])
        case ast.BinOp(op=op) | ast.BoolOp(op=op) if type(op) in SWAPS:
            yield changed(op=SWAPS[type(op)]())
        case ast.UnaryOp(op=ast.Not() | ast.Invert() | ast.USub()):
            yield node.operand
        case ast.Constant(value=bool()):
            yield changed(value=not node.value)
        case ast.Constant(value=int() | float()):
            yield changed(value=node.value + 1)
            yield changed(value=node.value - 1)
        case ast.If() | ast.IfExp() | ast.While():
            yield changed(test=ast.UnaryOp(ast.Not(), node.test))
        case ast.Attribute(attr=attr) if attr in OPPOSITES:
            yield changed(attr=OPPOSITES[attr])
        case ast.Name(id=id, ctx=ast.Load()) if id in OPPOSITES:
            yield changed(id=OPPOSITES[id])
        case ast.Call():
            if len(node.args) >= 2:
                yield changed(args=[node.args[1], node.args[0], *node.args[2:]])
            for dropped in node.keywords:
                yield changed(keywords=[keyword for keyword in node.keywords if keyword is not dropped])
        case ast.Assign() | ast.AugAssign() | ast.Expr() | ast.Raise() | ast.Assert():
            yield ast.Pass()


def mutants(gap: Gap) -> Iterator[tuple[str, str]]:
    """What was edited, in words, and the source of the whole gap with that edit."""
    lines = [line.strip() for line in gap.solution.splitlines()]
    answer = range(lines.index(BEGIN) + 1, lines.index(END) + 1)  # as lines of `ast`, counted from 1
    tree = ast.parse(gap.solution)
    for parent in ast.walk(tree):
        for field, value in ast.iter_fields(parent):
            for index, node in enumerate(value) if isinstance(value, list) else [(None, value)]:
                if not isinstance(node, ast.AST) or getattr(node, "lineno", 0) not in answer:
                    continue
                for new in edits(node):
                    replacement = [*value[:index], new, *value[index + 1 :]] if isinstance(value, list) else new
                    setattr(parent, field, replacement)
                    yield f"{ast.unparse(node)} -> {ast.unparse(new)}", ast.unparse(ast.fix_missing_locations(tree))
                    setattr(parent, field, value)


def survives(gap: Gap, source: str, setup: dict) -> bool:
    """Whether the check lets an edited solution pass."""
    names = dict(setup)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            exec(compile(source, gap.name, "exec"), names)
            exec(gap.check, names)
        except Exception:
            return False
    return True


def judged(lesson: str, gap: Gap, known: dict[str, str]) -> tuple[dict, list[str]]:
    """A row of the table, and the survivors that nobody has explained."""
    setup: dict = {}
    for source in gap.setup:
        exec(compile(source, "setup", "exec"), setup)
    start = time.process_time()
    if not survives(gap, gap.solution, setup):
        sys.exit(f"{lesson}.{gap.name}: its own solution does not pass")
    seconds = time.process_time() - start
    found = list(mutants(gap))
    patience, answers.SECONDS = answers.SECONDS, max(SECONDS, TIMES * seconds)
    alive = [what for what, source in found if survives(gap, source, setup)]
    answers.SECONDS = patience
    holes = [what for what in alive if what not in known]
    real = len(found) - len(alive) + len(holes)
    row = {"gap": f"{lesson}.{gap.name}", "edits": len(found), "equivalent": len(alive) - len(holes)}
    return row | {
        "rejected": real - len(holes),
        "share": (real - len(holes)) / real if real else float("nan"),
        "check_s": round(seconds, 2),
    }, holes


def main() -> None:
    known = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or {}
    rows, begun, let_through = [], time.perf_counter(), 0
    with tempfile.TemporaryDirectory() as home:
        os.environ["MLOPS_HOME"] = home
        for path in sorted((ROOT / "solutions").glob("*.ipynb")):
            lesson = path.stem[3:]
            if sys.argv[1:] and path.name[:2] not in sys.argv[1:]:
                continue
            for gap in gaps(nbformat.read(path, as_version=4)):
                row, holes = judged(lesson, gap, known.get(f"{lesson}.{gap.name}", {}))
                rows.append(row)
                let_through += len(holes)
                for hole in holes:
                    print(f"let through by {row['gap']}: {hole}")
    table = pd.DataFrame(rows).set_index("gap")
    real = (table["edits"] - table["equivalent"]).sum()
    print(table.round({"share": 3}).to_string())
    print(f"{len(table)} gaps, {table['edits'].sum()} edits, {table['equivalent'].sum()} equivalent;", end=" ")
    print(f"rejected {table['rejected'].sum()} of {real} ({table['rejected'].sum() / real:.1%})", end=", ")
    print(f"{time.perf_counter() - begun:.0f} s")
    sys.exit(let_through > 0)


if __name__ == "__main__":
    main()
