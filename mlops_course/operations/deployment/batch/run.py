"""One run over a file: what is done, what is left, and the files that come of it."""

import hashlib
import json
import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq


@dataclass(frozen=True)
class Scored:
    """Result of a run: predictions, rows set aside, and the parts that this run had to score.

    `quarantine` is the file of the rows that were set aside, None if there are none. `already_done` is true if the run
    found everything done and wrote nothing; a run killed after its last part has no part to do, but files to write.
    """

    rows: int
    quarantined: int
    parts: int
    quarantine: Path | None
    already_done: bool = False


class ScoringRun:
    """What is to be scored, and what lies beside the target: parts on the way, rows set aside, and a manifest.

    `model` names the model by its content. Raises ValueError if source or target end in another suffix than .parquet or
    .csv, or are one file.
    """

    def __init__(self, source: Path, target: Path, *, model: str, rows_per_part: int) -> None:
        for path in (source, target):
            if path.suffix not in (".parquet", ".csv"):
                raise ValueError(f"expected a file that ends in .parquet or .csv, got {path.name}")
        if source.resolve() == target.resolve():
            raise ValueError(f"expected another file than the source to write to, got {target} for both")
        self._source, self._target = source, target
        self._asked = {"source": _digest(source), "model": model, "rows_per_part": rows_per_part}
        self._asked |= {"from": source.suffix, "to": target.suffix}
        self._parts, self._quarantine, self._manifest = (
            target.with_name(f"{target.name}.{what}") for what in ("parts", "quarantine.csv", "manifest.json")
        )
        self.folder = self._parts / hashlib.sha256(json.dumps(self._asked).encode()).hexdigest()[:16]

    def finished(self) -> Scored | None:
        """What an earlier run came to that was asked for the same, if its files are as it left them."""
        try:
            manifest = json.loads(self._manifest.read_text(encoding="utf-8"))
            digests = [_digest(path) if path.exists() else None for path in (self._target, self._quarantine)]
            if manifest["asked"] != self._asked or manifest["digests"] != digests:
                return None
            done = self._scored(manifest["counts"], parts=0, already_done=True)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a manifest that cannot be read counts as none
        shutil.rmtree(self._parts, ignore_errors=True)
        return done

    def part(self, number: int) -> Path:
        """The file of one part; it is there once the part is done."""
        return self.folder / f"{number:06d}.parquet"

    def finish(self, parts: list[Path], *, total: int, new: int) -> Scored:
        """Make target and quarantine from the parts, then the manifest; only then delete the parts.

        `total` is the number of rows in the source, and `new` of parts that this run has scored. The manifest has the
        digests of what was written, not of what is there: another run may have been faster. Raises OSError if the
        source was written to meanwhile, or if another run took parts away.
        """
        if _digest(self._source) != self._asked["source"]:
            shutil.rmtree(self.folder, ignore_errors=True)  # its parts may be of either content
            raise OSError(f"expected {self._source} to stay as it was, but it was written to meanwhile; start again")
        aside = [path for part in parts if (path := part.with_suffix(".csv")).exists()]
        quarantined = sum(pd.read_csv(path, usecols=["row"])["row"].nunique() for path in aside)
        rows = {part: pq.read_metadata(part).num_rows for part in parts}
        counts = {"rows": sum(rows.values()), "quarantined": quarantined}
        if sum(counts.values()) != total:
            raise OSError(f"expected {total} rows in {self.folder}, got {counts}; is another run at work? Start again")
        kept, as_csv = [part for part in parts if rows[part]] or parts[:1], self._target.suffix == ".csv"
        target = replace_file(self._target, lambda partial: _write_all(kept, partial, as_csv=as_csv), by=self.folder)
        quarantine = None
        if aside:
            quarantine = replace_file(self._quarantine, lambda partial: _join_lines(aside, partial), by=self.folder)
        else:
            self._quarantine.unlink(missing_ok=True)
        manifest = json.dumps({"asked": self._asked, "counts": counts, "digests": [target, quarantine]}, indent=1)
        replace_file(self._manifest, lambda partial: partial.write_text(manifest, encoding="utf-8"), by=self.folder)
        shutil.rmtree(self._parts, ignore_errors=True)  # what stays there goes with the next run
        return self._scored(counts, parts=new)

    def _scored(self, counts: dict[str, int], *, parts: int, already_done: bool = False) -> Scored:
        quarantine = self._quarantine if counts["quarantined"] else None
        return Scored(**counts, parts=parts, quarantine=quarantine, already_done=already_done)


def _write_all(parts: list[Path], path: Path, *, as_csv: bool) -> None:
    """The parts as one file, one after the other, so that memory stays flat."""
    schemas = [pq.read_schema(part).remove_metadata() for part in parts]
    schema = pa.unify_schemas(schemas, promote_options="permissive")  # a column may be empty in one part
    with (pa.csv.CSVWriter if as_csv else pq.ParquetWriter)(path, schema) as writer:
        for part in parts:
            writer.write_table(pq.read_table(part).cast(schema))


def _join_lines(parts: list[Path], path: Path) -> None:
    """CSV files with the same header as one file that has it once."""
    with open(path, "wb") as whole:
        for number, part in enumerate(parts):
            with open(part, "rb") as lines:
                if number:
                    lines.readline()
                shutil.copyfileobj(lines, whole)


def replace_file(path: Path, write: Callable[[Path], Any], *, by: Path) -> str:
    """Write a file in the folder `by`, see it on disk, and put it in its place: it is there whole or not at all.

    Returns its digest. What a killed process was writing stays in `by`, under a name that no other run has.
    """
    partial = by / f"{path.name}.{uuid.uuid4().hex}.partial"
    try:
        write(partial)
        with open(partial, "rb+") as file:
            os.fsync(file.fileno())
        digest = _digest(partial)
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return digest


def _digest(path: Path) -> str:
    with open(path, "rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()
