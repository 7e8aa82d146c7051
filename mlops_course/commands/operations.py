"""What runs: the service, what watches it, history lived through again, and all of it as a demonstration."""

import json
from typing import Any

import click

from mlops_course.commands.shared import (
    as_json,
    log_option,
    open_log,
    progress_bar,
    show,
    system_of,
    training_steps,
)

__all__ = ["demo", "monitor", "replay", "serve"]


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Where to listen; 0.0.0.0 is every network.")
@click.option("--port", default=8000, show_default=True, help="0 takes a free one.")
@log_option
@click.option(
    "--token", default="", envvar="MLOPS_TOKEN", show_envvar=True, help="Bearer token that callers must send."
)
@click.pass_context
def serve(context: click.Context, host: str, port: int, log_url: str | None, token: str) -> None:
    """Answer requests with the champion over HTTP, each response on record; Ctrl-C stops it.

    A promotion or a rollback is taken up within a second, without a restart. Documentation is at /docs, what is served
    at /, measurements at /metrics.
    """
    from mlops_course.system import service

    system = system_of(context)
    if system.registry.champion() is None:
        click.echo("No version is champion yet, so requests get 503 until you promote one.", err=True)
    log_url = log_url or system.workspace.prediction_log_url
    service.run(
        system,
        log_url=log_url,
        endpoint=service.Endpoint(host, port, token),
        started=lambda url: click.echo(f"Serving on {url} (Ctrl-C stops it); try {url}/docs"),
    )


@click.command()
@click.option("--at", type=click.DateTime(), help="The moment to look at, in UTC; the end of the last day with rows.")
@log_option
@as_json
@click.pass_context
def monitor(context: click.Context, at: Any, log_url: str | None, as_json: bool) -> None:
    """What the prediction log says: alerts, drift and performance, and a report to open in a browser.

    A running service shows the same at /monitor.
    """
    import pandas as pd

    from mlops_course.system import monitor as monitors
    from mlops_course.system import report

    system = system_of(context)
    monitor = monitors.Monitor.of(system)
    with open_log(system, log_url) as log:
        monitor.read(log)
    now = pd.Timestamp(at, tz="UTC") if at else monitor.end
    if now is None:
        raise click.ClickException("expected rows in the prediction log, found none; let the service answer some first")
    if as_json:
        click.echo(json.dumps(monitor.state(now), indent=1))
        return
    alerts = pd.DataFrame([vars(alert) for alert in monitor.alerts(now)], columns=["since", "until", "kind", "text"])
    show(
        alerts.assign(since=alerts["since"].astype(str).str[:10], until=alerts["until"].astype(str).str[:10]),
        title="Alerts",
    )
    weeks = monitor.performance(now).rename_axis("week").reset_index()
    if len(weeks):
        shown = ["week", "rows", "labelled", "log_loss", "estimated_log_loss", "cost", "estimated_cost"]
        show(weeks[shown].assign(week=weeks["week"].dt.strftime("%Y-%m-%d")).round(3), title="By week")
    path = report.write(monitor.report(now), system.workspace.reports / "monitoring.html")
    click.echo(f"Report: {path}")


@click.command()
@click.option(
    "--policy", default="combined", show_default=True, help="When to train: see mlops_course.operations.retraining."
)
@click.option("--window", default="all past", show_default=True, help="On what: all past, last 1, last 3, seasonal.")
@click.option("--first", help="First batch that is lived through; the fourth there is if not given.")
@click.option("--last", help="The last one; the last there is if not given.")
@click.option("--faults", type=int, help="Seed of a schedule of faults that break the stream; none if not given.")
@click.option("--careless", is_flag=True, help="Promote what was trained at once, whatever the gate says.")
@click.option("--http", "over_http", is_flag=True, help="Ask over HTTP; in process, which is quicker, if not given.")
@click.option("--seed", default=0, show_default=True, help="For everything that is random.")
@click.pass_context
def replay(
    context: click.Context,
    policy: str,
    window: str,
    first: str | None,
    last: str | None,
    faults: int | None,
    careless: bool,
    over_http: bool,
    seed: int,
) -> None:
    """Live through months of history with a policy of retraining: serve, watch, decide, train, release.

    Each day goes through the real service, in simulated time. One that was killed goes on where it stopped; what came
    of it stays in its own folder below replays/ in the workspace, where `serve` and `history` can look at it.
    """
    import pandas as pd

    from mlops_course.operations.monitoring import faults as injector
    from mlops_course.system import replay as loop

    system = system_of(context)
    batches = system.case.batches()
    first, last = first or batches[3], last or batches[-1]
    span = {"start": pd.Timestamp(first, tz="UTC"), "end": pd.Timestamp(last, tz="UTC") + pd.offsets.MonthEnd(1)}
    drawn = injector.schedule(system.case.FAULTS, seed=faults, **span) if faults is not None else []
    plan = loop.Plan(
        first=first,
        last=last,
        policy=policy,
        window=window,
        faults=[fault.as_dict() for fault in drawn],
        careful=not careless,
        seed=seed,
    )
    parts = [
        policy,
        window,
        first,
        last,
        "careless" if careless else "",
        f"faults {faults}" if faults is not None else "",
        str(seed),
    ]
    name = "-".join(part.replace(" ", "_") for part in parts if part)
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
    ledger = done.ledger.frame()
    months = ledger.groupby(ledger["day"].str[:7]).agg(
        answered=("answered", "sum"),
        labelled=("labelled", "sum"),
        errors=("error_cost", "sum"),
        training=("training_cost", "sum"),
        serving=("serving_cost", "sum"),
        log_loss=("log_loss", "sum"),
    )
    months["log_loss"] = (months["log_loss"] / months["labelled"]).round(4)
    show(months.round(0 if months.empty else 4).reset_index(names="month"), title=f"{policy}, {window}")
    for day in done.ledger.days:
        for step in day["steps"]:
            click.echo(f"{day['day']}  {step}")
    raised = {(alert["since"], alert["text"]) for day in done.ledger.days for alert in day["alerts"]}
    for since, text in sorted(raised):
        click.echo(f"{since}  alert: {text}")
    click.echo(f"Ledger: {done.ledger.path}\nTo look at it: MLOPS_HOME={done.system.workspace.root} mlops-course serve")


@click.command()
@click.pass_context
def demo(context: click.Context) -> None:
    """The whole loop in a minute and a half, told as it happens: release, serve, break, notice, retrain, roll back.

    Paths of pages to open in a browser are printed last. May be repeated: what was trained is not trained again.
    """
    from mlops_course.system import demo

    with training_steps() as progress:
        pages = demo.tell(system_of(context), say=click.echo, progress=progress)
    for name, page in pages.items():
        click.echo(f"{name}: {page}")
