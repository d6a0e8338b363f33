"""Verbs before a model exists: init, simulate, validate."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

import typer
from rich.table import Table

from predictive_scoring.cli.output import counted, people, print_json, steps
from predictive_scoring.data.audit import audit_project
from predictive_scoring.data.drafting import draft_project
from predictive_scoring.data.simulator import SimulationConfig
from predictive_scoring.data.simulator import simulate as simulate_world
from predictive_scoring.data.sinks import write_tables
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.catalog import views_of
from predictive_scoring.timeline import to_epoch
from predictive_scoring.training import read_playbook


def init(
    tables: list[Path], out: Path, outcome: str | None, force: bool, as_json: bool, now: datetime
) -> None:
    """Draft a project file; an existing one is kept unless `force`."""
    if out.exists() and not force:
        raise InvalidSetting(
            what=f"{out} exists already",
            where="--out",
            remedy="Name another file, or overwrite it with --force.",
        )
    draft = draft_project(tables, relative_to=out.resolve().parent, outcome=outcome, today=to_epoch(now))
    out.write_text(draft.text, encoding="utf-8")
    if as_json:
        print_json({"project": str(out), "notes": list(draft.notes)})
        return
    people.print(f"Wrote {out}. Read its comments, then: predictive-scoring validate --project {out}")
    for note in draft.notes:
        people.print(f"  - {note}", markup=False)


def simulate(project: Path, leads: int, seed: int, leaks: tuple[str, ...], as_json: bool) -> None:
    """Write a simulated world into the project's leads, events and touches tables."""
    loaded = load_project(project)
    config = SimulationConfig(seed=seed, leads=leads, leaks=leaks)
    with counted("simulating days") as progress:
        world = simulate_world(config, progress)
    # The leads table holds what was known when each lead was created: a later job title is history that a
    # cutoff before it must not see.
    first = world.attribute_changes.sort_values(["occurred_at", "attribute"]).drop_duplicates(
        ["lead_id", "attribute"]
    )
    created = first.pivot(index="lead_id", columns="attribute", values="value")
    frame = world.leads.set_index("lead_id")
    for attribute in created.columns.intersection(frame.columns):
        frame[attribute] = created[attribute].reindex(frame.index).astype(frame[attribute].dtype)
    written = write_tables(
        loaded, {"leads": frame.reset_index(), "events": world.events, "touches": world.touches}
    )
    summary = {"leads": len(world.leads), "events": len(world.events), "touches": len(world.touches)}
    if as_json:
        print_json(
            {"tables": {name: str(path) for name, path in written.items()}, "rows": summary, "seed": seed}
        )
        return
    for name, path in written.items():
        people.print(f"{summary[name]:>9,} {name:<8} {path}", soft_wrap=True)


def validate(project: Path, as_json: bool) -> None:
    """Print the audit of the project's tables; exit 2 when a model cannot be trained on them."""
    loaded = load_project(project)
    with steps("reading the tables") as say:
        tables = open_tables(loaded)
        say("checking them")
        playbook = read_playbook(loaded, views_of(loaded.project))
        actions = None if playbook is None else [action.action_id for action in playbook.actions]
        report = audit_project(tables, actions=actions)
    if as_json:
        print_json(report.to_document())
    else:
        table = Table("code", "severity", "what", "where", "to do", title=f"{loaded.project.name}: findings")
        for finding in report.findings:
            table.add_row(finding.code, finding.severity, finding.what, finding.where, finding.remedy)
        people.print(table if report.findings else "No findings.")
        people.print(report.summary, markup=False)
    if not report.ready_to_train:
        raise typer.Exit(2)
