"""This computer, MLflow's pages, and the workspace."""

import shutil
import subprocess
import sys

import click

from mlops_course.commands.shared import as_json, show
from mlops_course.course.progress.journal import KEPT
from mlops_course.system.workspace import Workspace

__all__ = ["doctor", "reset", "ui"]


@click.command()
@as_json
def doctor(as_json: bool) -> None:
    """Check that everything the course needs is here, and say what to do if not.

    The databases of the workspace are read. Exit code 1: something is missing or broken.
    """
    import pandas as pd

    from mlops_course.system.environment import checks

    workspace = Workspace.locate()
    found = pd.DataFrame(checks("mlops-course", folder=workspace.root, stores=workspace.stores))
    show(found if as_json else found.assign(ok=found["ok"].map({True: "yes", False: "NO"})), as_json=as_json)
    if not found["ok"].all():
        raise click.exceptions.Exit(1)


@click.command()
@click.option("--port", default=5000, show_default=True, help="Where to listen, on this computer only.")
def ui(port: int) -> None:
    """Open MLflow's pages on the workspace: runs, models, versions. Stop it with Ctrl-C.

    Exit code 4: the port is taken.
    """
    from mlops_course.course.classroom.machine import expect_free

    expect_free("127.0.0.1", port, "MLflow's pages")
    workspace = Workspace.locate().create()
    click.echo(f"MLflow on http://127.0.0.1:{port} (Ctrl-C stops it)")
    command = [sys.executable, "-m", "mlflow", "ui", "--host", "127.0.0.1", "--port", str(port)]
    only_here = ["--allowed-hosts", f"127.0.0.1,localhost,127.0.0.1:{port},localhost:{port}"]
    stores = ["--backend-store-uri", workspace.tracking_uri, "--default-artifact-root", workspace.artifacts_uri]
    try:
        sys.exit(subprocess.call([*command, *only_here, *stores]))
    except KeyboardInterrupt:
        click.echo("Stopped.")


@click.command()
@click.option("--yes", is_flag=True, help="Do not ask.")
def reset(yes: bool) -> None:
    """Delete all models, runs and reports of the workspace; progress with exercises stays."""
    workspace = Workspace.locate()
    going = sorted(path for path in workspace.root.glob("*") if path.name not in KEPT)
    if not going:
        click.echo(f"There is nothing to delete in a workspace at {workspace.root}.")
        return
    if not workspace.database.exists():
        raise click.ClickException(
            f"expected {workspace.database.name} in a workspace, found none in {workspace.root}; delete it by hand"
        )
    if not yes:
        click.confirm(f"Delete {workspace.root} and everything in it but your progress?", abort=True)
    for path in sorted(going, key=lambda path: path == workspace.database):  # last, to resume an interrupted reset
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    kept = any(workspace.root.iterdir())
    if not kept:
        workspace.root.rmdir()
    click.echo(f"Deleted {workspace.root}{', but for your progress with the exercises' if kept else ''}.")
