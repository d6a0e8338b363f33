"""Verbs of the data scientist: train, compare, promote, rollback."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import typer
from rich.table import Table

from predictive_scoring.cli.output import aside, counted, people, print_json, show, steps
from predictive_scoring.data.audit import data_findings
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.sinks import write_text
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.errors import GateRefused
from predictive_scoring.keeping.champion import BundleStore, Promotion
from predictive_scoring.schema import Finding

if TYPE_CHECKING:
    from predictive_scoring.comparison import Comparison
    from predictive_scoring.keeping.registry import Version
    from predictive_scoring.model.tuning import Tuning


def train(
    project: Path,
    models: Path,
    tracking_uri: str,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
    *,
    report: Path | None = None,
    trials: int | None = None,
    minutes: float | None = None,
) -> None:
    """Train a candidate and print its verdict, as a page too where `report` says; exit 3 when it is rejected.

    `trials` and `minutes` are the budget of a search for better settings; it is kept beside the bundles, so that a
    killed one goes on."""
    loaded = load_project(project)
    store = BundleStore(models / loaded.project.name)
    searches = models / loaded.project.name / "tuning.db"
    with (
        steps("reading the tables") as say,
        engine() as opened,
        _searching(trials, minutes, searches) as tuning,
    ):
        tables = open_tables(loaded, opened)
        say("checking them")
        _warn(data_findings(tables))
        # The learners take seconds to load, and a refusal of the tables should not wait for them.
        from predictive_scoring.training import train as train_candidate

        trained = train_candidate(loaded, tables, store, tracking_uri, say, tuning)
        if report is not None:
            write_text(report, trained.report)
    document = trained.to_document()
    if as_json:
        print_json(document)
    else:
        people.print(
            f"[bold]{loaded.project.name}[/] version {trained.version}: [bold]{document['verdict']}[/]",
            highlight=False,
        )
        for reason in document["reasons"]:
            people.print(f"  - {reason}", markup=False)
        if document["metrics"]["test"] is not None:
            people.print(_test_metrics(document["metrics"]["test"]))
        people.print(f"Bundle {document['model']['path']}\nMLflow run {document['run_id']}", markup=False)
        if report is not None:
            people.print(f"Report {report}", markup=False)
    if document["verdict"] != "validated":
        raise typer.Exit(GateRefused.exit_code)


def _test_metrics(test: Mapping[str, float | None]) -> Table:
    table = Table("measure", "newest period", title="Test metrics")
    for name in (
        *("auc", "pr_auc", "log_loss", "brier", "ece"),
        *("base_rate", "lift_at_10", "capture_at_10", "n"),
    ):
        value = test[name]
        table.add_row(name, f"{value:.4f}" if isinstance(value, float) else show(value))
    return table


@contextmanager
def _searching(trials: int | None, minutes: float | None, kept: Path) -> Iterator[Tuning | None]:
    """The budget of a search with a bar that shows its trials, if one is asked for."""
    if trials is None and minutes is None:
        yield None
        return
    from predictive_scoring.model.tuning import Tuning

    with counted("trying settings") as told:
        yield Tuning(trials, minutes, kept, told)


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
    *,
    dry_run: bool = False,
    report: Path | None = None,
) -> None:
    """Print two versions judged on the same rows, record the verdict on the candidate where the other one is the
    champion, and write it all as a page where `report` says."""
    from predictive_scoring.comparison import compare_versions
    from predictive_scoring.keeping.registry import Registry

    loaded = load_project(project)
    store = BundleStore(models / loaded.project.name)
    registry = Registry(tracking_uri)
    candidate = registry.version(loaded.project.name, version)
    other = registry.version(loaded.project.name, against or store.champion().version)
    with steps("reading the tables") as say, engine() as opened:
        tables = open_tables(loaded, opened)
        say("judging both versions on the same rows")
        comparison = compare_versions(tables, store, candidate, other)
        recorded, words = _verdict_kept(store, candidate, other, dry_run)
        if recorded:
            registry.judged(candidate, comparison.verdict.name, other.bundle, comparison.rows)
        if report is not None:
            say(f"writing {report}")
            write_text(report, _page(loaded.project.name, comparison, words))
    if as_json:
        told = {"recorded": recorded} | ({"report": str(report)} if report else {})
        print_json(comparison.to_document() | told)
        return
    _show_comparison(comparison, words)


def _verdict_kept(store: BundleStore, candidate: Version, other: Version, dry_run: bool) -> tuple[bool, str]:
    """Whether the verdict is recorded on the candidate, and what to tell of it."""
    champion = store.succession().champion
    if candidate.bundle == other.bundle:
        return False, "Both versions are the same bundle; nothing is recorded."
    if champion is None or store.path(other.bundle).name != champion.bundle:
        return False, f"Version {other.version} is not the champion, so the verdict is not recorded."
    if dry_run:
        return False, "A dry run: the verdict is not recorded."
    return True, f"The verdict is recorded on version {candidate.version}; promote goes by it."


def _page(name: str, comparison: Comparison, words: str) -> str:
    from predictive_scoring.insight.challenge_report import Both, challenge_report

    challenge = comparison.verdict.challenge
    if challenge is None:
        raise ValueError("a comparison always has a challenge")
    candidate, other = comparison.versions
    both = Both(
        project=name,
        versions=(candidate.version, other.version),
        rows=comparison.rows,
        labels=comparison.labels,
        probabilities=comparison.probabilities,
        metrics=(comparison.candidate, comparison.other),
        verdict=comparison.verdict,
    )
    shadow = comparison.shadow
    return challenge_report(
        both,
        challenge,
        recorded=words,
        open_leads=comparison.to_document()["open_leads"],
        change=None if shadow is None else shadow.change,
    )


def _show_comparison(comparison: Comparison, words: str) -> None:
    from predictive_scoring.comparison import MOVED

    candidate, other = comparison.versions
    table = Table("measure", f"version {other.version}", f"version {candidate.version}")
    before, after = comparison.other.to_document(), comparison.candidate.to_document()
    for name, value in after.items():
        table.add_row(
            name,
            *(f"{cell:.4f}" if isinstance(cell, float) else show(cell) for cell in (before[name], value)),
        )
    people.print(table)
    people.print(f"Judged on {comparison.rows}.", markup=False)
    people.print(f"As a challenger, version {candidate.version} is [bold]{comparison.verdict.name}[/]:")
    for reason in comparison.verdict.reasons:
        people.print(f"  - {reason}", markup=False)
    if comparison.verdict.challenge is not None:
        people.print(f"  - {comparison.verdict.challenge.churn.sentence}", markup=False)
    if comparison.shadow is not None:
        today = comparison.shadow.to_document()
        people.print(
            f"Today: of {today['leads']:,} open leads {today['moved']:,} would move by more than {MOVED} points, "
            f"{len(today['to_ready']):,} would become ready, {len(today['to_nurture']):,} would go back to nurture."
        )
    people.print(words, markup=False)


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
