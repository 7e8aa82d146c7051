"""A project of one's own for one's own table: the stages as own code, and a case folder made from what the table says.

    create    write a project for a judged table into a new folder, whole or not at all
    update    bring the stages and the template of this version into a project; what its owner changed stays

`table` judges the table, `columns` its columns, and `reading` reads it, here and in the project. The template is in
`template/`; the stages are copied from the installed package under the project's name, so they are never older than it.
"""

import hashlib
import json
import keyword
import os
import re
import shutil
import sys
from dataclasses import asdict, dataclass
from datetime import date
from importlib import metadata, util
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from mlops_course import __version__
from mlops_course.course.snippets import LICENCE, distribution, files_of, imports_of, stage_of
from mlops_course.starter.table import Judgement

__all__ = ["Change", "create", "package_name", "update"]

PACKAGE = Path(__file__).parents[1]
OWN, DISTRIBUTION = PACKAGE.name, "mlops-course"
TEMPLATE = Path(__file__).with_name("template")
# What a project begins with; all that these import comes along
ROOTS = ("system.pipeline", "system.release", "system.service", "system.monitor")
NOT_IMPORTED = ("pyarrow", "tzdata", "httptools", "uvloop")  # needed or quicker, and imported by none of them by name
ANSWERS, MANIFEST = ".copier-answers.yml", ".starter.json"


@dataclass(frozen=True)
class Change:
    """What an update did to a file: "new", "updated", "kept" or "removed"; and what is left to do."""

    path: str
    what: str
    advice: str = ""


def package_name(folder: Path) -> str:
    """The name of a project's package, made from that of its folder: an identifier that hides no other package."""
    name = re.sub(r"\W+", "_", folder.name.lower(), flags=re.ASCII).strip("_")
    name = name if name and not name[0].isdigit() else f"project_{name}".rstrip("_")
    taken = keyword.iskeyword(name) or name in sys.stdlib_module_names or name in ("tests", "data")
    found = None if taken else util.find_spec(name)
    return f"{name}_project" if taken or (found is not None and found.origin is not None) else name


def create(folder: Path, judgement: Judgement, *, data: Path, command: str, today: date) -> None:
    """Write a starter project for the table in `data` into `folder`, whole or not at all.

    `command` is what the user called, for the README. Raises FileExistsError if the folder holds something.
    """
    folder = folder.resolve()
    if folder == Path.cwd():
        raise FileExistsError("expected a new folder, got the current one; name another, such as a new one in it")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise FileExistsError(
            f"expected a new or empty folder, got {folder} with something in it; name another one, or bring a project "
            "up to date with --update"
        )
    name = package_name(folder)
    answers = {
        "project": name.replace("_", "-"),
        "package": name,
        "made": today.isoformat(),
        "command": command,
        "plan": judgement.plan,
        "findings": [asdict(line) for line in judgement.findings],
        "figures": {name: {"value": value, "why": why} for name, (value, why) in judgement.figures.items()},
        "facts": judgement.facts,
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as place:
        made = Path(place) / "project"
        _render(made, answers)
        (made / "data").mkdir()
        shutil.copyfile(data, made / "data" / data.name)
        if folder.exists():
            folder.rmdir()
        made.rename(folder)


def update(folder: Path) -> list[Change]:
    """Bring a project's files up to this version of the package; what its owner changed is never overwritten.

    A file that is as it was made is replaced. One that was changed is kept, and if this version makes another one than
    before, that is put beside it as FILE.new. Raises ValueError if the folder holds no starter project.
    """
    if not (folder / ANSWERS).is_file() or not (folder / MANIFEST).is_file():
        raise ValueError(f"expected a project made by `{DISTRIBUTION} new`, with {ANSWERS} and {MANIFEST}, in {folder}")
    answers = yaml.safe_load((folder / ANSWERS).read_text(encoding="utf-8"))
    before = json.loads((folder / MANIFEST).read_text(encoding="utf-8"))["files"]
    changes = []
    with TemporaryDirectory(dir=folder, prefix=".update-") as place:
        made = Path(place) / "project"
        after = _render(made, answers)
        for name in sorted({*before, *after}):
            if change := _bring(folder / name, made / name, before.get(name), after.get(name)):
                changes.append(Change(name, *change))
        os.replace(made / MANIFEST, folder / MANIFEST)
    return changes


def _bring(there: Path, made: Path, before: str | None, after: str | None) -> tuple[str, str] | None:
    """Put one file in its place, or beside it; returns what was done, None for nothing."""
    now = _digest(there) if there.is_file() else None
    if now == after or before == after:  # already so, or only its owner has changed it
        return None
    if after is None:
        if now == before:
            there.unlink()
            return "removed", "this version does not need it"
        return ("kept", "this version does not need it; you changed it, so it stays") if now else None
    if now is None and before is not None:
        return "kept", "you deleted it; it is not brought back"
    if now in (None, before):
        there.parent.mkdir(parents=True, exist_ok=True)
        os.replace(made, there)
        return ("new" if now is None else "updated"), ""
    beside = there.with_name(there.name + ".new")
    os.replace(made, beside)
    return "kept", f"you changed it; the new one is {beside.name}: compare, take what you want, delete it"


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _render(folder: Path, answers: dict[str, Any]) -> dict[str, str]:
    """Write a project without its table, and return the digest of each file; it is listed in `MANIFEST`, too."""
    from copier import Settings, run_copy

    stages = _closure(ROOTS)
    needs = _requirements(stages)
    extra = {
        "course": __version__,
        "python": f"{sys.version_info.major}.{sys.version_info.minor}",
        "requirements": [str(need) for need in needs],
        "pins": [f"{name}=={version}" for name, version in sorted(_pins([*needs, Requirement("pytest")]).items())],
    }
    how = {"defaults": True, "quiet": True, "overwrite": True, "settings": Settings()}  # none of the user's own
    run_copy(str(TEMPLATE), folder, data=answers | extra, **how)
    package, project = answers["package"], answers["project"]
    for file in [*_files(stages), PACKAGE / "starter" / "reading.py"]:
        text = file.read_text(encoding="utf-8")
        text = text.replace(f"{OWN}.starter", OWN)
        text = re.sub(rf"\b{OWN}\b", package, text).replace(DISTRIBUTION, project)
        text = re.sub(r"\bMLOPS_(?=[A-Z])", f"{package.upper()}_", text)  # or MLOPS_HOME would lead into the course's
        path = folder / package / (file.name if file.parent.name == "starter" else file.relative_to(PACKAGE))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{LICENCE}\n{text}" if file.suffix == ".py" else text, encoding="utf-8", newline="\n")
    files = {path.relative_to(folder).as_posix(): _digest(path) for path in sorted(folder.rglob("*")) if path.is_file()}
    manifest = {"course": extra["course"], "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", encoding="utf-8", newline="\n")
    return files


def _closure(roots: tuple[str, ...]) -> list[str]:
    """Stages and parts of the system, in dots below the package, and all that they import of it, at any depth."""
    found, waiting = set(), list(roots)
    while waiting:
        stage = waiting.pop()
        if stage not in found:
            found.add(stage)
            waiting += filter(None, (stage_of(inner) for outer, inner in imports_of(stage) if outer == OWN))
    return sorted(found)


def _files(stages: list[str]) -> list[Path]:
    """The files of stages, and the `__init__.py` of each folder that holds them."""
    found = {file for stage in stages for file in files_of(stage)}
    above = {folder for file in found for folder in file.relative_to(PACKAGE).parents if folder.name}
    return sorted(
        found | {PACKAGE / folder / "__init__.py" for folder in above if (PACKAGE / folder / "__init__.py").is_file()}
    )


def _requirements(stages: list[str]) -> list[Requirement]:
    """What the stages import, with the ranges that the course asks for."""
    needs = map(Requirement, metadata.requires(DISTRIBUTION) or ())
    asked = {need.name: need for need in needs if "extra" not in str(need.marker)}
    tops = {outer for stage in stages for outer, _ in imports_of(stage)} | {"click", "yaml"}
    tops -= {OWN, *sys.stdlib_module_names}
    names = {distribution(top) for top in tops} | asked.keys() & {*NOT_IMPORTED}
    return [asked.get(name, Requirement(name)) for name in sorted(names)]


def _pins(requirements: list[Requirement]) -> dict[str, str]:
    """The installed version of each requirement and of all that these need here."""
    found: dict[str, str] = {}
    waiting = [(requirement, "") for requirement in requirements]
    done = set()
    while waiting:
        requirement, extra = waiting.pop()
        if requirement.marker and not requirement.marker.evaluate({"extra": extra}):
            continue
        try:
            installed = metadata.distribution(requirement.name)
        except metadata.PackageNotFoundError:
            continue  # such as what only another system needs
        name = canonicalize_name(installed.metadata["Name"])
        found[name] = installed.version
        for wanted in ["", *requirement.extras]:
            if (name, wanted) not in done:
                done.add((name, wanted))
                waiting += [(Requirement(text), wanted) for text in installed.requires or ()]
    return found
