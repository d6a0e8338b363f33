"""Verbs of the data scientist: train, compare, promote, rollback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import typer
from rich.table import Table

from predictive_scoring.cli.output import aside, people, print_json, show, steps
from predictive_scoring.data.audit import data_findings
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.errors import GateRefused
from predictive_scoring.keeping.champion import BundleStore, Promotion
from predictive_scoring.schema import Finding


def train(
    project: Path,
    models: Path,
    tracking_uri: str,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
) -> None:
    """Train a candidate and print its verdict; exit 3 when it is rejected."""
    loaded = load_project(project)
    store = BundleStore(models / loaded.project.name)
    with steps("reading the tables") as say, engine() as opened:
        tables = open_tables(loaded, opened)
        say("checking them")
        _warn(data_findings(tables))
        # The learners take seconds to load, and a refusal of the tables should not wait for them.
        from predictive_scoring.training import train as train_candidate

        trained = train_candidate(loaded, tables, store, tracking_uri, say)
    document = trained.to_document()
    if as_json:
        print_json(document)
    else:
        test = document["metrics"]["test"]
        people.print(
            f"[bold]{loaded.project.name}[/] version {trained.version}: [bold]{document['verdict']}[/]",
            highlight=False,
        )
        for reason in document["reasons"]:
            people.print(f"  - {reason}", markup=False)
        table = Table("measure", "newest period", title="Test metrics")
        for name in (
            "auc",
            "pr_auc",
            "log_loss",
            "brier",
            "ece",
            "base_rate",
            "lift_at_10",
            "capture_at_10",
            "n",
        ):
            value = test[name]
            table.add_row(name, f"{value:.4f}" if isinstance(value, float) else show(value))
        people.print(table)
        people.print(f"Bundle {document['model']['path']}\nMLflow run {document['run_id']}", markup=False)
    if document["verdict"] != "validated":
        raise typer.Exit(GateRefused.exit_code)


def _warn(findings: Sequence[Finding]) -> None:
    """Warnings of the audit on stderr; `validate` prints them with what to do."""
    for finding in findings:
        if finding.severity == "warning":
            aside.print(
                f"{finding.code} warning: {finding.what} ({finding.where})", markup=False, soft_wrap=True
            )


def compare(
    project: Path,
    version: str | None,
    against: str | None,
    models: Path,
    tracking_uri: str,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
) -> None:
    """Print two versions judged on the same rows."""
    from predictive_scoring.comparison import compare_versions
    from predictive_scoring.keeping.registry import Registry

    loaded = load_project(project)
    store = BundleStore(models / loaded.project.name)
    registry = Registry(tracking_uri)
    candidate = registry.version(loaded.project.name, version)
    other = registry.version(loaded.project.name, against or store.champion().version)
    with steps("reading the tables") as say, engine() as opened:
        tables = open_tables(loaded, opened)
        say("judging both versions on the newest period")
        comparison = compare_versions(tables, store, candidate, other)
    if as_json:
        print_json(comparison.to_document())
        return
    table = Table("measure", f"version {other.version}", f"version {candidate.version}")
    before, after = comparison.other.to_document(), comparison.candidate.to_document()
    for name, value in after.items():
        table.add_row(
            name,
            *(f"{cell:.4f}" if isinstance(cell, float) else show(cell) for cell in (before[name], value)),
        )
    people.print(table)
    people.print(f"As a challenger, version {candidate.version} would be {comparison.verdict.name}:")
    for reason in comparison.verdict.reasons:
        people.print(f"  - {reason}", markup=False)


def promote(
    project: Path,
    version: str | None,
    override: str | None,
    models: Path,
    tracking_uri: str,
    as_json: bool,
    now: str,
) -> None:
    """Make a version the champion, after a trial load of its bundle in a child process."""
    from predictive_scoring.keeping.bundle import read_bundle, try_bundle
    from predictive_scoring.keeping.registry import Registry

    loaded = load_project(project)
    store = BundleStore(models / loaded.project.name)
    registry = Registry(tracking_uri)
    chosen = registry.version(loaded.project.name, version)
    path = store.path(chosen.bundle)
    read_bundle(path)
    try_bundle(path)
    _tell(loaded.project.name, registry.promote(store, chosen, promoted_at=now, override=override), as_json)


def rollback(project: Path, models: Path, tracking_uri: str, as_json: bool) -> None:
    """Go back to the champion before this one."""
    from predictive_scoring.keeping.registry import Registry

    loaded = load_project(project)
    store = BundleStore(models / loaded.project.name)
    _tell(loaded.project.name, Registry(tracking_uri).rollback(store, loaded.project.name), as_json)


def _tell(name: str, promotion: Promotion, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "champion": asdict(promotion)})
        return
    people.print(f"Champion of {name}: version {promotion.version} (bundle {promotion.bundle})")
