"""A starter project for tables of many shapes, none of them the running case: is it made, tested, trained, gated?

Each table goes through `mlops-course new`, then the project's own tests and training run, without an edit. Those that
cannot be decided must stop, and say what to decide.

    python benchmarks/starter.py               all tables, about ten minutes
    python benchmarks/starter.py churn fraud   some of them
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from click.testing import CliRunner
from rich.console import Console
from rich.table import Table

from mlops_course.commands.starter import new
from mlops_course.starter import table

SECONDS = 600  # that tests or training of a project may take


def _label(rng: np.random.Generator, score: np.ndarray) -> np.ndarray:
    return (rng.random(len(score)) < 1 / (1 + np.exp(-score))).astype(int)


def churn(folder: Path) -> list[str]:
    """Dates and truths as text, an identifier, a constant, and a column that is written after the fact."""
    rng, rows = np.random.default_rng(0), 4_000
    asked = pd.Timestamp("2023-01-01") + pd.to_timedelta(np.sort(rng.integers(0, 540, rows)), unit="D")
    months, calls, paid = rng.integers(0, 60, rows), rng.poisson(1.2, rows), rng.random(rows) < 0.5
    plan = rng.choice(["basic", "plus", "pro"], rows)
    left = _label(rng, -1.2 - 0.04 * months + 0.5 * calls + 0.6 * (plan == "basic") - 0.8 * paid)
    table = pd.DataFrame(
        {
            "customer": [f"C{number:06d}" for number in range(rows)],
            "snapshot": asked.strftime("%d/%m/%Y"),
            "signup": (asked - pd.to_timedelta(months * 30, unit="D")).strftime("%Y-%m-%d"),
            "plan": plan,
            "support calls": calls,
            "autopay": np.where(paid, "yes", "no"),
            "country": "AT",
            "cancel_reason": np.where(left, rng.choice(["price", "moved"], rows), ""),
            "churned": np.where(left, "Yes", "No"),
        }
    )
    table.to_csv(folder / "churn.csv", index=False)
    return ["--data", "churn.csv", "--target", "churned", "--time", "snapshot"]


def fraud(folder: Path) -> list[str]:
    """One per cent positives, rows out of order, one in fifty twice, times with offsets, in Parquet."""
    rng, rows = np.random.default_rng(1), 20_000
    asked = pd.Timestamp("2024-03-01", tz="UTC") + pd.to_timedelta(rng.integers(0, 60 * 86_400, rows), unit="s")
    amount, age = rng.lognormal(3, 1, rows).round(2), rng.integers(0, 2_000, rows)
    night = asked.hour.to_numpy() < 6
    table = pd.DataFrame(
        {
            "transaction_id": rng.permutation(rows) + 10_000_000,
            "made": asked.tz_convert("Europe/Vienna"),
            "amount": amount,
            "account_age_days": age,
            "foreign": rng.random(rows) < 0.1,
            "card_id": rng.integers(0, 6_000, rows),
            "merchant": rng.choice([f"M{number}" for number in range(40)], rows),
        }
    )
    score = -8.4 + 0.9 * np.log(amount) + 1.5 * night + 1.6 * table["foreign"] - 0.001 * age
    table["fraud"] = _label(rng, score.to_numpy()).astype(bool)
    again = table.sample(frac=0.02, random_state=1)
    pd.concat([table, again]).sample(frac=1, random_state=2).to_parquet(folder / "fraud.parquet", index=False)
    return ["--data", "fraud.parquet", "--target", "fraud", "--time", "made"]


def sensors(folder: Path) -> list[str]:
    """A hundred sensors with gaps, dead ones, a doubled one, and one that was added half way."""
    rng, rows = np.random.default_rng(2), 12_000
    table = pd.DataFrame({f"s{number:03d}": rng.normal(size=rows).round(3) for number in range(100)})
    score = -2.5 + 1.2 * table["s003"] + 0.9 * table["s010"] * (table["s011"] > 0)
    table["s020"], table["s021"], table["s030"] = 0.0, np.nan, table["s031"]
    table.loc[: rows // 2, "s040"] = np.nan
    table["time"] = pd.date_range("2025-01-01", periods=rows, freq="10min", tz="UTC").strftime("%Y-%m-%dT%H:%M:%SZ")
    table["state"] = np.where(_label(rng, score.to_numpy()), "fault", "ok")
    for name in rng.choice([f"s{number:03d}" for number in range(40, 100)], 30, replace=False):
        table.loc[rng.random(rows) < 0.3, name] = np.nan
    table.to_csv(folder / "sensors.csv", index=False)
    return ["--data", "sensors.csv", "--target", "state", "--time", "time", "--positive", "fault"]


def orders(folder: Path) -> list[str]:
    """Columns of many values: sessions, products, postal codes with leading zeros, free text."""
    rng, rows = np.random.default_rng(3), 6_000
    product = rng.zipf(1.3, rows) % 3_000
    words = ["late", "please", "call", "door", "gift", "leave", "fragile", "ring", "never", "soon"]
    channel = rng.choice(["web", "app", "shop"], rows, p=[0.5, 0.4, 0.1])
    items = rng.poisson(2, rows) + 1
    table = pd.DataFrame(
        {
            "id": [f"{number:08x}" for number in rng.permutation(rows)],
            "batch": rng.integers(1, 5, rows),
            "ordered": pd.date_range("2024-01-01", periods=rows, freq="73min").strftime("%Y-%m-%d %H:%M"),
            "session": [f"{number:032x}" for number in rng.integers(0, 2**62, rows)],
            "product": [f"P{number}" for number in product],
            "postcode": [f"0{number}" for number in rng.integers(1_000, 1_080, rows)],
            "note": [" ".join(rng.choice(words, 6)) + f" {number}" for number in range(rows)],
            "channel": channel,
            "items": items,
        }
    )
    table["returned"] = _label(rng, -2 + 0.35 * items + 0.9 * (channel == "app") - 0.5 * (channel == "shop"))
    table.to_csv(folder / "orders.csv", index=False)
    return ["--data", "orders.csv", "--target", "returned", "--time", "ordered"]


def kredit(folder: Path) -> list[str]:
    """European CSV: semicolons, decimal commas, dots between thousands, Windows-1252, dates, k.A. for none."""
    rng, rows = np.random.default_rng(4), 2_500
    income, sum_, term = rng.gamma(6, 500, rows), rng.gamma(3, 4_000, rows), rng.choice([12, 24, 36, 60], rows)
    late = _label(rng, -1.5 + 1.2 * (sum_ / (income * term) - 0.1) * 3 - 0.0004 * income + 1.0)

    def german(number: float) -> str:
        return f"{number:,.2f}".replace(",", " ").replace(".", ",").replace(" ", ".")

    table = pd.DataFrame(
        {
            "Vertrag-Nr": np.arange(rows) + 5_000,
            "Datum": pd.date_range("2022-01-03", periods=rows, freq="9h").strftime("%d.%m.%Y %H:%M"),
            "Einkommen": [german(number) if rng.random() > 0.03 else "k.A." for number in income],
            "Summe": [german(number) for number in sum_],
            "Laufzeit": term,
            "Größe Haushalt": rng.integers(1, 6, rows),
            "Straße": rng.choice(["Ring", "Gürtel", "Gasse"], rows),
            "Bürge": np.where(rng.random(rows) < 0.3, "ja", "nein"),
            "Ausfall": np.where(late, "ja", "nein"),
        }
    )
    table.to_csv(folder / "kredit.csv", index=False, sep=";", encoding="cp1252")
    return ["--data", "kredit.csv", "--target", "Ausfall", "--time", "Datum"]


def tickets(folder: Path) -> list[str]:
    """A leak among honest columns, answers not there yet, mixed types, and some times that cannot be read."""
    rng, rows = np.random.default_rng(5), 3_000
    opened = pd.date_range("2024-06-01", periods=rows, freq="2h")
    priority, words = rng.choice(["low", "mid", "high"], rows), rng.poisson(60, rows)
    late = _label(rng, -2.2 + 1.3 * (priority == "high") + 0.02 * words)
    table = pd.DataFrame(
        {
            "opened": opened.astype(str),
            "priority": priority,
            "words": words.astype(str),
            "hours_to_close": np.where(late, rng.uniform(49, 90, rows), rng.uniform(1, 47, rows)).round(1),
            "closed": (opened + pd.to_timedelta(rng.uniform(1, 90, rows), unit="h")).strftime("%Y-%m-%d %H:%M"),
            "room": rng.choice(["101", "102", "hall", "205", "lab"], rows),
            "score": np.where(rng.random(rows) < 0.2, "not rated", rng.normal(5, 2, rows).round(2).astype(str)),
            "late": late.astype(float),
        }
    )
    table.loc[table.index[-60:], "late"] = np.nan
    table.loc[rng.choice(rows, 30, replace=False), "opened"] = "soon"
    table.to_csv(folder / "tickets.csv", index=False)
    return ["--data", "tickets.csv", "--target", "late", "--time", "opened"]


def cancer(folder: Path) -> list[str]:
    """Scikit-learn's breast cancer table: 569 rows, no time, names with spaces, columns that are very good alone."""
    from sklearn.datasets import load_breast_cancer

    load_breast_cancer(as_frame=True).frame.to_csv(folder / "cancer.csv", index=False)
    return ["--data", "cancer.csv", "--target", "target", "--no-time"]


def digits(folder: Path) -> list[str]:
    """Scikit-learn's digits: 64 pixels, ten values of the target, one of them asked for."""
    from sklearn.datasets import load_digits

    load_digits(as_frame=True).frame.to_parquet(folder / "digits.parquet")
    return ["--data", "digits.parquet", "--target", "target", "--positive", "8", "--no-time"]


def wine(folder: Path) -> list[str]:
    """Scikit-learn's wine: 178 rows are too few, and it must say so."""
    from sklearn.datasets import load_wine

    load_wine(as_frame=True).frame.to_csv(folder / "wine.csv", index=False)
    return ["--data", "wine.csv", "--target", "target", "--positive", "1", "--no-time"]


def diabetes(folder: Path) -> list[str]:
    """Scikit-learn's diabetes: the target is a number, and it must say what to do."""
    from sklearn.datasets import load_diabetes

    load_diabetes(as_frame=True).frame.to_csv(folder / "diabetes.csv", index=False)
    return ["--data", "diabetes.csv", "--target", "target", "--no-time"]


def ordered(folder: Path) -> list[str]:
    """Rows sorted by their answer, no time: a split by order would have one answer in each part."""
    rng = np.random.default_rng(6)
    table = pd.DataFrame({"x": rng.normal(size=1_000).round(3), "answer": np.arange(1_000) > 500})
    table.to_csv(folder / "ordered.csv", index=False)
    return ["--data", "ordered.csv", "--target", "answer", "--no-time"]


TABLES: tuple[Callable[[Path], list[str]], ...] = (
    *(churn, fraud, sensors, orders, kredit, tickets, cancer, digits, wine, diabetes, ordered),
)


def run(make: Callable[[Path], list[str]], folder: Path) -> tuple[dict[str, str], str]:
    """One table, from the file to a registered model: what came of each step, and what `new` told."""
    arguments = make(folder)
    arguments[1] = str(folder / arguments[1])
    project = folder / "project" / make.__name__
    start = time.perf_counter()
    made = CliRunner().invoke(new, [str(project), *arguments])
    seconds = time.perf_counter() - start
    cells, _, _ = table.look(Path(arguments[1]))
    line = {"table": make.__name__, "rows": f"{len(cells):,}", "columns": f"{cells.shape[1]}"}
    line["new"] = f"{seconds:.1f} s"
    if made.exit_code:
        kind = "stopped" if isinstance(made.exception, ValueError) else "CRASHED"
        said = str(made.exception or made.output)
        return line | {"decisions": "", "tests": kind, "train": "", "gate": said}, said
    findings = yaml.safe_load((project / ".copier-answers.yml").read_text(encoding="utf-8"))["findings"]
    left_out = sum(one["decided"] == "left out" for one in findings)
    line["decisions"] = f"{len(findings)}, {left_out} left out"
    tests, told = _timed(project, "-m", "pytest", "-q", "-x")
    line["tests"] = f"{told.strip().splitlines()[-1]} ({tests})" if told.strip() else tests
    seconds, told = _timed(project, "-m", make.__name__, "train")
    metrics = {words[0]: words[1] for words in map(str.split, told.splitlines()) if len(words) == 4}
    verdict = (
        "passed" if "The gate passed it" in told else told.partition("The gate refused it:")[2].strip() or told[-300:]
    )
    line |= {"train": seconds, "gate": f"{verdict}; AUC {metrics.get('roc_auc')}, cost {metrics.get('cost_ratio')}"}
    return line, made.output


def _timed(project: Path, *command: str) -> tuple[str, str]:
    """Seconds and output of a Python command in the project, with its own workspace and without the course's folder."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=project, env=environment, capture_output=True, encoding="utf-8", timeout=SECONDS
    )
    told = done.stdout if done.returncode in (0, 3) else done.stdout + done.stderr
    return f"{time.perf_counter() - start:.0f} s", told


def main() -> None:
    chosen = [make for make in TABLES if not sys.argv[1:] or make.__name__ in sys.argv[1:]]
    grid = Table(box=None, pad_edge=False)
    lines = []
    for make in chosen:
        with tempfile.TemporaryDirectory() as folder:
            line, told = run(make, Path(folder))
        print(f"\n{make.__name__}: {make.__doc__}\n{told}", flush=True)
        print(line, flush=True)
        lines.append(line)
    for title in lines[0]:
        grid.add_column(title, overflow="fold")
    for line in lines:
        grid.add_row(*line.values())
    Console(width=180).print(grid)


if __name__ == "__main__":
    main()
