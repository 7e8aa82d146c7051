"""The service, its monitoring, a replay of history, and a demonstration of the whole loop."""

import json
import os
from dataclasses import asdict
from typing import Any

import click

from mlops_course.commands.shared import as_json, log_option, pass_log, pass_system, progress_bar, show, told_bar

__all__ = ["demo", "monitor", "replay", "serve"]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is every network.")
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@log_option
@click.option(
    "--token-file",
    type=click.File(encoding="utf-8"),
    help="File with the token that callers must send; or set MLOPS_TOKEN. Without one, everybody who can reach the "
    "address may ask, send labels and read all pages.",
)
@click.option("--allow-host", multiple=True, help="Another name that callers may know it by; may be repeated.")
@pass_system
def serve(system: Any, host: str, port: int, log_url: str | None, token_file: Any, allow_host: tuple[str, ...]) -> None:
    """Answer requests with the champion over HTTP, and log each prediction; Ctrl-C stops it.

    A promotion or a rollback takes effect within a second, without a restart. Documentation is at /docs, what is served
    at /, measurements at /metrics. Exit code 4: the port is taken.
    """
    from mlops_course.course.classroom.machine import expect_free
    from mlops_course.system import service

    expect_free(host, port, "the service")

    token = token_file.read().strip() if token_file else os.environ.get("MLOPS_TOKEN", "")
    if system.registry.champion() is None:
        click.echo("No version is champion yet, so requests get 503 until you promote one.", err=True)
    service.run(
        system,
        log_url=log_url or system.workspace.prediction_log_url,
        endpoint=service.Endpoint(host, port, token, allow_host),
        started=lambda url: click.echo(f"Serving on {url} (Ctrl-C stops it); try {url}/docs"),
    )


@click.command()
@click.option("--at", type=click.DateTime(), help="The moment to look at, in UTC; else the end of the last day.")
@as_json
@pass_log
def monitor(system: Any, log: Any, at: Any, as_json: bool) -> None:
    """Show what the prediction log says: alerts, drift and performance, and write a report to open in a browser.

    A running service shows the same at /monitor.
    """
    import pandas as pd

    from mlops_course.system import monitor as monitors
    from mlops_course.system import report

    monitor = monitors.Monitor.of(system)
    monitor.read(log)
    now = pd.Timestamp(at, tz="UTC") if at else monitor.end
    if now is None:
        raise click.ClickException("expected rows in the prediction log, found none; let the service answer some first")
    if as_json:
        click.echo(json.dumps(monitor.state(now), indent=1))
        return
    alerts = pd.DataFrame([vars(alert) for alert in monitor.alerts(now)], columns=["since", "until", "kind", "text"])
    if alerts.empty:
        click.echo(f"No alerts: nothing unusual was seen up to {now:%Y-%m-%d %H:%M} UTC.\n")
    else:
        dates = {name: alerts[name].astype(str).str[:10] for name in ("since", "until")}
        show(alerts.assign(**dates), title="Alerts")
    weeks = monitor.performance(now).rename_axis("week").reset_index()
    if len(weeks):
        shown = ["week", "rows", "labelled", "log_loss", "estimated_log_loss", "cost", "estimated_cost"]
        show(weeks[shown].assign(week=weeks["week"].dt.strftime("%Y-%m-%d")).round(3), title="By week")
    path = report.write(monitor.report(now), system.workspace.reports / "monitoring.html")
    click.echo(f"Report: {path}")


@click.command()
@click.option("--policy", default="combined", show_default=True, help="When to train; see operations.retraining.")
@click.option("--window", default="all past", show_default=True, help="On what: all past, last 1, last 3, seasonal.")
@click.option("--first", help="First batch of the replay; the fourth of all if not given.")
@click.option("--last", help="Last batch of the replay; the last of all if not given.")
@click.option("--faults", type=int, help="Seed of a schedule of faults that break the stream; none if not given.")
@click.option("--careless", is_flag=True, help="Promote each trained model at once, whatever the gate says.")
@click.option("--http", "over_http", is_flag=True, help="Ask the service over HTTP, which is slower than in process.")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@pass_system
def replay(system: Any, faults: int | None, careless: bool, over_http: bool, **plan: Any) -> None:
    """Replay months of history with a policy of retraining: serve, monitor, decide, train, release.

    Each day goes through the real service, in simulated time. A replay that was killed continues where it stopped. The
    result stays in a folder below replays/ in the workspace, where `serve` and `history` can look at it.
    """
    import pandas as pd

    from mlops_course.operations.monitoring import faults as injector
    from mlops_course.system import replay as loop

    batches = system.case.batches()
    plan |= {"first": plan["first"] or batches[3], "last": plan["last"] or batches[-1]}
    end = pd.Timestamp(plan["last"], tz="UTC") + pd.offsets.MonthEnd(1)
    span = {"start": pd.Timestamp(plan["first"], tz="UTC"), "end": end}
    drawn = injector.schedule(system.case.FAULTS, seed=faults, **span) if faults is not None else []
    plan = loop.Plan(**plan, faults=[asdict(fault) for fault in drawn], careful=not careless)
    flags = ["careless"] * careless + ([f"faults {faults}"] if faults is not None else [])
    name = "-".join([plan.policy, plan.window, plan.first, plan.last, *flags, str(plan.seed)]).replace(" ", "_")
    days = (span["end"] - span["start"]).days + 1
    with progress_bar(days, "living") as advance:
        done = loop.replay(
            system,
            plan,
            name=name,
            over_http=over_http,
            told=lambda day, line: advance(f"{day:%Y-%m-%d} champion {line['champion']}", 1),
            progress=lambda step, event: advance(f"training: {step.replace('_', ' ')}", 0),
        )
    _show_ledger(done.ledger, title=f"{plan.policy}, {plan.window}")
    click.echo(f"Ledger: {done.ledger.path}\nTo look at it: MLOPS_HOME={done.system.workspace.root} mlops-course serve")


def _show_ledger(ledger: Any, *, title: str) -> None:
    """Print the months of a replay, its releases and its alerts."""
    days = ledger.frame()
    costs = {"error_cost": "errors", "training_cost": "training", "serving_cost": "serving"}
    summed = ["answered", "labelled", *costs, "log_loss"]
    months = days.groupby(days["day"].str[:7])[summed].sum().rename(columns=costs)
    months["log_loss"] = (months["log_loss"] / months["labelled"]).round(4)
    show(months.round(0 if months.empty else 4).reset_index(names="month"), title=title)
    for day in ledger.days:
        for step in day["steps"]:
            click.echo(f"{day['day']}  {step}")
    raised = {(alert["since"], alert["text"]) for day in ledger.days for alert in day["alerts"]}
    for since, text in sorted(raised):
        click.echo(f"{since}  alert: {text}")


@click.command()
@pass_system
def demo(system: Any) -> None:
    """Run the whole loop in a few minutes: release, serve, break, notice, retrain, roll back.

    The pages to open in a browser are printed last. A second run does not train again.
    """
    from mlops_course.system import demo

    with told_bar("the first training") as (advance, say):
        pages = demo.tell(system, say=say, progress=advance)
    ledger = pages.pop("ledger")
    click.echo("\nOpen in a browser:")
    for name, page in pages.items():
        click.echo(f"  {name}: {page.as_uri()}")
    click.echo(
        f"Each day, in numbers: {ledger}\n\n"
        f"Look at the model again:  MLOPS_HOME={ledger.parent} mlops-course serve\n"
        "Read the first lesson:    notebooks/00_start_here.ipynb (make course opens it in JupyterLab)\n"
        "Take a program to work:   mlops-course snippet"
    )
