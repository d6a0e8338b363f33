"""Verbs that look after the champion: monitor, recalibrate."""

from __future__ import annotations

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from predictive_scoring.cli.opening import champion_and_tables
from predictive_scoring.cli.output import people, percent, print_json, show, steps
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.sinks import write_text
from predictive_scoring.errors import GateRefused
from predictive_scoring.keeping.champion import BundleStore

if TYPE_CHECKING:
    from predictive_scoring.keeping.bundle import ScoringModel
    from predictive_scoring.monitoring import Monitoring

SHOWN_FEATURES = 8


def monitor(
    project: Path,
    report: Path | None,
    log: bool,
    models: Path,
    tracking_uri: str,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
) -> None:
    """Print what has changed since the champion was trained; exit 3 on an alarm."""
    from predictive_scoring.monitoring import monitor as look

    with (
        champion_and_tables(project, None, models, engine) as (loaded, scorer, tables, _),
        steps("comparing the present leads with those of training") as say,
    ):
        found = look(scorer.scoring, tables, version=scorer.version or "")
        run_id = None
        if report is not None or log:
            from predictive_scoring.insight.monitoring_page import monitoring_page

            page = monitoring_page(
                found.to_document(), _labels(scorer.scoring), loaded.project.description or ""
            )
            if report is not None:
                say(f"writing {report}")
                write_text(report, page)
            if log:
                from predictive_scoring.keeping.registry import Registry

                say("recording the look in MLflow")
                run_id = Registry(tracking_uri).log_look(
                    loaded.project.name,
                    found.figures(),
                    page,
                    {
                        "bundle": scorer.identity,
                        "version": scorer.version or "",
                        "observed_until": found.until,
                        "alarms": " ".join(sorted({alarm.code for alarm in found.alarms})),
                    },
                )
    if as_json:
        print_json(
            found.to_document()
            | ({"report": str(report)} if report else {})
            | ({"run_id": run_id} if run_id else {})
        )
    else:
        _print(found, _labels(scorer.scoring))
        if run_id:
            people.print(f"MLflow run {run_id}", markup=False)
    if found.exit_code:
        raise typer.Exit(found.exit_code)


def recalibrate(
    project: Path,
    models: Path,
    tracking_uri: str,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
) -> None:
    """Register the champion with a new level of its probabilities; exit 3 when that is rejected."""
    from predictive_scoring.keeping.bundle import read_bundle
    from predictive_scoring.monitoring import recalibrate as refit

    with (
        champion_and_tables(project, None, models, engine) as (loaded, _, tables, _),
        steps("reading outcomes") as say,
    ):
        store = BundleStore(models / loaded.project.name)
        champion = store.champion()
        earlier = read_bundle(store.path(champion.bundle))
        kept = refit(tables, store, (champion.version, earlier), tracking_uri, say)
    document = kept.to_document()
    if as_json:
        print_json(document)
    else:
        done = document["recalibration"]
        people.print(
            f"[bold]{loaded.project.name}[/] version {kept.version}: [bold]{document['verdict']}[/] "
            f"(version {champion.version}, log-odds {done['shift']:+.3f} ± {done['error']:.3f})",
            highlight=False,
        )
        for reason in document["reasons"]:
            people.print(f"  - {reason}", markup=False)
        people.print(f"Bundle {document['model']['path']}\nMLflow run {document['run_id']}", markup=False)
    if document["verdict"] != "validated":
        raise typer.Exit(GateRefused.exit_code)


def _labels(scoring: ScoringModel) -> dict[str, str]:
    attributes = {name: attribute.label for name, attribute in scoring.project.attributes.items()}
    return {name: text for name, text in attributes.items() if text} | {
        feature.name: feature.label for feature in scoring.features
    }


def _print(found: Monitoring, labels: dict[str, str]) -> None:
    people.print(
        f"[bold]{found.name}[/] version {found.version or '-'}, data until {found.until[:10]}: "
        f"{found.rows:,} {found.population}"
    )
    if found.periods:
        table = Table(
            "scored in",
            "leads",
            "converted",
            "expected",
            "ratio",
            "AUC",
            "log-loss",
            "ECE",
            title="Known outcomes",
        )
        for one in found.periods:
            table.add_row(
                one.name,
                f"{one.rows:,}",
                f"{one.conversions:,}",
                f"{one.expected:,.1f}",
                _figure(one.ratio.value, 2),
                _figure(one.auc.value, 3),
                _figure(one.log_loss, 4),
                _figure(one.ece, 3),
            )
        people.print(table)
    if found.drifts:
        table = Table(
            "feature", "PSI", "by chance", "missing now", "in training", title="Inputs that moved most"
        )
        for drift in found.drifts[:SHOWN_FEATURES]:
            table.add_row(
                labels.get(drift.name, drift.name),
                f"{drift.psi:.3f}",
                f"{drift.by_chance:.3f}",
                percent(drift.missing.now),
                percent(drift.missing.before),
            )
        people.print(table)
    if found.score is not None:
        people.print(f"Scores: PSI {found.score.psi:.3f} ({found.score.by_chance:.3f} by chance)")
    if found.proposal is not None:
        new = found.proposal
        people.print(
            f"Another level (log-odds {new.shift:+.3f} ± {new.error:.3f}) would take log-loss from "
            f"{new.log_loss_before:.4f} to {new.log_loss_after:.4f} on the {new.judged:,} newest leads."
        )
    for note in found.notes:
        people.print(f"Note: {note}", markup=False)
    for code, alarms in groupby(found.alarms, key=lambda alarm: alarm.code):
        group = list(alarms)
        people.print(f"\n[bold red]{code}[/] {group[0].title}")
        for alarm in group:
            people.print(f"  - {alarm.what} ({alarm.where})", markup=False)
        people.print(f"  to do: {group[0].remedy}", markup=False)
    number = len(found.alarms)
    people.print(f"\n{number or 'No'} alarm{'s' if number > 1 else ''}.", style="bold")


def _figure(value: float, digits: int) -> str:
    return show(None) if value != value else f"{value:.{digits}f}"
