"""The one folder that holds all state of a run: delete it, and the course starts again.

    mlflow.db      tracking store and model registry (SQLite)
    artifacts/     what MLflow keeps of runs and models
    store.txt      a name that tells this store from another one in the same place
    cache/         results of pipeline steps, by what went into them
    snapshots/     versions of tables, by their content
    predictions/   log of what was predicted
    reports/       pages and tables for people
    replays/       workspaces of replays, one folder each
    withheld.txt   keyed digests of the ids whose rows must never be used again
    deletion.key   the key of these digests, unless MLOPS_DELETION_KEY holds it

`Workspace.locate` says where the folder is; nothing is written before `Workspace.create`.

>>> workspace = Workspace.locate({"MLOPS_HOME": "my runs"})
>>> workspace.snapshots.relative_to(Path.cwd()).as_posix(), workspace.root.exists()
('my runs/snapshots', False)
"""

import logging
import os
import shutil
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from secrets import token_hex
from types import ModuleType
from typing import TYPE_CHECKING

from mlops_course.system.database_file import defect_of
from mlops_course.system.keyed_digests import DigestKey, stored_key
from mlops_course.system.loggers import quiet

if TYPE_CHECKING:
    from mlops_course.operations.registry import Registry

__all__ = ["Workspace"]

FOLDER = ".mlops"
PROJECT = "mlops-course"
EMPTY = "empty.db"  # MLflow's database before anything is in it: making one takes seconds, copying one does not
STORE = "store.txt"  # a random name
REPLAYS = "replays"  # folder of the workspaces of replays


@dataclass(frozen=True)
class Workspace:
    """Paths and addresses below one folder, `root`, which must be absolute: MLflow writes it into its database.

    `shared` is the folder of another workspace, whose cache and snapshots are used: nothing is trained in both.
    """

    root: Path
    shared: Path | None = None

    def __post_init__(self) -> None:
        if not self.root.is_absolute():
            raise ValueError(f"expected an absolute folder for the workspace, got {self.root}; use Path.resolve()")
        if unusable := set("?%") & set(self.root.as_posix()):
            raise ValueError(
                f"expected a workspace folder without {' '.join(sorted(unusable))} in its path, got {self.root}; "
                "these have a meaning in the addresses of databases and files: set MLOPS_HOME to another folder"
            )

    @classmethod
    def locate(cls, environ: Mapping[str, str] = os.environ) -> "Workspace":
        """The workspace of this computer; writes nothing.

        `MLOPS_HOME` where it is set; otherwise `.mlops` in the checkout of the course that this file belongs to, or in
        the current folder when the package is installed without one.
        """
        if home := environ.get("MLOPS_HOME"):
            root = Path(home).expanduser().resolve()
            return cls(root, shared=root.parents[1] if root.parent.name == REPLAYS else None)
        return cls((_checkout() or Path.cwd()) / FOLDER)

    @property
    def database(self) -> Path:
        """SQLite file of the tracking store and the model registry."""
        return self.root / "mlflow.db"

    @property
    def tracking_uri(self) -> str:
        """Address of `database` for MLflow: tracking store and model registry are the same file."""
        return f"sqlite:///{self.database.as_posix()}"

    @property
    def store(self) -> str:
        """A name for this very store: one that is made again in the same place after it was deleted has another."""
        return f"{self.tracking_uri} {(self.root / STORE).read_text(encoding='utf-8')}"

    @property
    def artifacts_uri(self) -> str:
        """Address of the folder below which MLflow keeps files of runs and models."""
        return (self.root / "artifacts").as_uri()

    @property
    def cache(self) -> Path:
        """Folder of cached results of pipeline steps."""
        return (self.shared or self.root) / "cache"

    @property
    def snapshots(self) -> Path:
        """Folder of table versions."""
        return (self.shared or self.root) / "snapshots"

    @property
    def predictions(self) -> Path:
        """Folder of the prediction log."""
        return self.root / "predictions"

    @property
    def prediction_log_url(self) -> str:
        """Address of the prediction log for SQLAlchemy."""
        return f"sqlite:///{(self.predictions / 'log.db').as_posix()}"

    @property
    def stores(self) -> tuple[Path, Path]:
        """The files of both databases: MLflow's, and the prediction log where it is in the workspace."""
        return self.database, self.predictions / "log.db"

    @property
    def reports(self) -> Path:
        """Folder of pages and tables for people."""
        return self.root / "reports"

    def replay(self, name: str) -> "Workspace":
        """The workspace of a replay, below this one, with which it shares cache and snapshots."""
        return Workspace(self.root / REPLAYS / name, shared=self.shared or self.root)

    def fresh(self, name: str) -> "Workspace":
        """A workspace like that of a replay, but empty: what was in it is deleted, the shared results are not."""
        workspace = self.replay(name)
        shutil.rmtree(workspace.root, ignore_errors=True)  # what Windows holds open stays, and is used again
        return workspace

    @property
    def withheld(self) -> Path:
        """File with a digest for each id that somebody asked to be forgotten, one a line."""
        return self.root / "withheld.txt"

    def withheld_ids(self) -> list[str]:
        """Keyed digests of the ids whose rows must not be used, sorted."""
        return self.withheld.read_text(encoding="utf-8").split() if self.withheld.exists() else []

    def digest_key(self, *, make: bool = False) -> DigestKey:
        """The key of the digests; with `make`, one is made if there is none. Raises DigestKeyError without a key."""
        return stored_key(self.root / "deletion.key", make=make)

    def withhold(self, ids: Iterable[str]) -> None:
        """Never use the rows of these ids again; the file holds the old digests or the new ones, never half of them."""
        before = self.withheld_ids()
        key = self.digest_key(make=not before)
        key.known([], before)  # raises if they were made with another key
        digests = {key.digest(name) for name in ids}.union(before)
        partial = self.withheld.with_suffix(f".{os.getpid()}.part")
        partial.write_text("".join(f"{digest}\n" for digest in sorted(digests)), encoding="utf-8")
        partial.replace(self.withheld)

    def create(self) -> "Workspace":
        """Make the folders and the database where they are missing, and return this workspace.

        The database is made under another name and moved into place when whole: MLflow cannot open one whose making was
        killed half way. Raises ValueError for a database that is there and cannot be read.
        """
        for folder in (self.cache, self.snapshots, self.predictions, self.reports):
            folder.mkdir(parents=True, exist_ok=True)
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")  # the course sends nothing out of the house
        if not self.database.exists():
            part, empty = f".{os.getpid()}.part", (self.shared or self.root) / EMPTY
            if defect_of(empty):
                empty.unlink(missing_ok=True)
            if not empty.exists():
                empty.with_suffix(part).unlink(missing_ok=True)
                self._make_database(empty.with_suffix(part))
                _settle(empty.with_suffix(part), empty)
            shutil.copyfile(empty, self.database.with_suffix(part))
            _settle(self.database.with_suffix(part), self.database)
        if not (self.root / STORE).exists():
            name = self.root / f"{STORE}.{os.getpid()}.part"
            name.write_text(token_hex(8), encoding="utf-8")
            _settle(name, self.root / STORE)
        self._expect_readable()
        return self

    def _expect_readable(self) -> None:
        """Say which database is broken before a library does it in a hundred lines."""
        for file in self.stores:
            if why := defect_of(file, thorough=file == self.database):  # the log may be large
                raise ValueError(
                    f"expected a database in {file}, but it cannot be read ({why}); put a backup in its place, or move "
                    "it away: an empty one is made then"
                )

    def _make_database(self, path: Path) -> None:
        from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

        with quiet("mlflow.store", below=logging.WARNING):  # it reports each step of making the tables
            store = SqlAlchemyStore(f"sqlite:///{path.as_posix()}", self.artifacts_uri)
        store.engine.dispose()

    def registry(self, case: ModuleType) -> "Registry":
        """The versions of a case's model that are kept in this workspace, under the name of the case's folder."""
        from mlops_course.operations.registry import Registry

        name = case.__name__.rpartition(".")[2]
        return Registry(self.tracking_uri, name, trusted=[f"{case.derive.__module__}.{case.derive.__qualname__}"])


def _settle(partial: Path, file: Path) -> None:
    """Move a whole file into place; one that another process has put there meanwhile may be in use, and stays."""
    try:
        os.link(partial, file)  # unlike a rename, it never replaces a file
    except FileExistsError:
        pass
    except OSError:  # a file system without links
        if not file.exists():
            partial.replace(file)
    partial.unlink(missing_ok=True)


def _checkout() -> Path | None:
    folder = Path(__file__).resolve().parents[2]
    project = folder / "pyproject.toml"
    if not project.is_file():
        return None
    name = tomllib.loads(project.read_text(encoding="utf-8")).get("project", {}).get("name")
    return folder if name == PROJECT else None
