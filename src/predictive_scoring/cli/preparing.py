"""Verbs before a model exists: init, simulate, validate."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pandas as pd
import typer
from rich.markup import escape
from rich.table import Table

from predictive_scoring.cli.output import counted, people, print_json, steps
from predictive_scoring.data.audit import audit_project, remedies
from predictive_scoring.data.drafting import draft_project, draft_warehouse
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.simulator import SimulationConfig, World
from predictive_scoring.data.simulator import simulate as simulate_world
from predictive_scoring.data.sinks import write_tables, write_text
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.features.catalog import views_of
from predictive_scoring.features.definitions import features_of
from predictive_scoring.insight.readiness_report import readiness_report
from predictive_scoring.timeline import to_epoch
from predictive_scoring.training import read_playbook


def init(
    tables: list[str],
    dsn: str | None,
    out: Path,
    outcome: str | None,
    force: bool,
    as_json: bool,
    now: datetime,
) -> None:
    """Draft a project file; an existing one is kept unless `force`."""
    if out.exists() and not force:
        raise InvalidSetting(
            what=f"{out} exists already",
            where="--out",
            remedy="Name another file, or overwrite it with --force.",
        )
    if not out.resolve().parent.is_dir():
        raise InvalidSetting(
            what=f"the folder {out.parent} does not exist",
            where="--out",
            remedy="Make it first, or name another.",
        )
    paths, today = [Path(table) for table in tables], to_epoch(now)
    with steps("looking at the tables") as say:
        # The variable of --dsn may be set for other verbs: what lies on the disk is meant as a file.
        if dsn is not None and not any(path.exists() for path in paths):
            draft = draft_warehouse(tables, dsn=dsn, today=today, outcome=outcome, say=say)
        else:
            folder = out.resolve().parent
            draft = draft_project(paths, relative_to=folder, today=today, outcome=outcome, say=say)
    write_text(out, draft.text)
    if as_json:
        print_json({"project": str(out), "notes": list(draft.notes)})
        return
    people.print(
        f"Wrote {out}. Read its comments, then: predictive-scoring validate --project {out}",
        markup=False,
        soft_wrap=True,
    )
    for note in draft.notes:
        people.print(f"  - {note}", markup=False, soft_wrap=True)


def simulate(project: Path, leads: int, seed: int, leaks: tuple[str, ...], as_json: bool) -> None:
    """Write a simulated world into the project's tables: leads, events, touches, and attribute changes where the
    project reads them."""
    loaded = load_project(project)
    config = SimulationConfig(seed=seed, leads=leads, leaks=leaks)
    with counted("simulating days") as progress:
        world = simulate_world(config, progress)
    frames = {"leads": world.leads, "events": world.events, "touches": world.touches}
    if loaded.project.sources.attribute_changes is not None:
        frames["attribute_changes"] = world.attribute_changes
    else:
        frames["leads"] = _as_created(world)
    written = write_tables(loaded, frames)
    summary = {name: len(rows) for name, rows in frames.items()}
    if as_json:
        print_json(
            {"tables": {name: str(path) for name, path in written.items()}, "rows": summary, "seed": seed}
        )
        return
    for name, path in written.items():
        people.print(f"{summary[name]:>9,} {name:<17} {path}", soft_wrap=True)


def _as_created(world: World) -> pd.DataFrame:
    """The leads with what was known when each was created: without a history of changes, a later job title
    is something that a cutoff before it must not see."""
    changes = world.attribute_changes.sort_values(["occurred_at", "attribute"])
    first = changes.drop_duplicates(["lead_id", "attribute"])
    created = first.pivot(index="lead_id", columns="attribute", values="value")
    frame = world.leads.set_index("lead_id")
    for attribute in created.columns.intersection(frame.columns):
        frame[attribute] = created[attribute].reindex(frame.index).astype(frame[attribute].dtype)
    return frame.reset_index()


def validate(
    project: Path, report: Path | None, as_json: bool, engine: Callable[[], Engine] = open_engine
) -> None:
    """Print the audit of the project's tables, and write it as a page where `report` says. Exit 2 when a model cannot
    be trained on them, 3 when only suspected leaks stand against it."""
    loaded = load_project(project)
    with steps("reading the tables") as say, engine() as opened:
        tables = open_tables(loaded, opened)
        say("checking them")
        views = views_of(loaded.project)
        playbook = read_playbook(loaded, views)
        actions = None if playbook is None else [action.action_id for action in playbook.actions]
        audited = audit_project(tables, actions=actions)
        if report is not None:
            say(f"writing {report}")
            labels = {feature.name: feature.label for feature in features_of(views)}
            page = readiness_report(loaded.project, audited, tables.observed_until, labels)
            write_text(report, page)
    if as_json:
        print_json(audited.to_document() | ({"report": str(report)} if report else {}))
    else:
        table = Table("code", "severity", "what", "where", "to do", title=f"{loaded.project.name}: findings")
        for finding in audited.findings:
            table.add_row(
                *(
                    escape(str(part))
                    for part in (finding.code, finding.severity, finding.what, finding.where, finding.remedy)
                )
            )
        people.print(table if audited.findings else "No findings.")
        if audited.refused:
            people.print(remedies(loaded.project, audited.refused), markup=False, soft_wrap=True)
        people.print(audited.readiness.summary, markup=False)
        people.print(audited.summary, markup=False)
    if audited.exit_code:
        raise typer.Exit(audited.exit_code)
