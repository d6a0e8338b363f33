"""The verb of the sales leader: plan."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rich import box
from rich.table import Table

from predictive_scoring.cli.opening import champion_and_tables
from predictive_scoring.cli.output import people, percent, print_json
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.data.inflow import INFLOW_DAYS, open_inflow
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.model.capacity import CapacityPlan, Position, Value, plan_capacity
from predictive_scoring.settings import Project
from predictive_scoring.timeline import format_instant


def plan(
    project: Path,
    capacity: int | None,
    models: Path,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
) -> None:
    """Print where the line of readiness lies for `capacity` leads a week, and what moving it would bring."""
    with champion_and_tables(project, None, models, engine) as (loaded, scorer, tables, instant):
        weekly = capacity if capacity is not None else loaded.project.readiness.weekly_capacity
        if weekly is None:
            raise InvalidSetting(
                what="nobody said how many leads sales can work in a week",
                where=f"{project}, readiness",
                remedy="Give --capacity, or set readiness.weekly_capacity.",
            )
        if loaded.project.is_snapshot:
            raise InvalidSetting(
                what="a snapshot says nothing of how many leads arrive in a week: its rows have no dates",
                where=str(project),
                remedy="Plan with an event log; for a snapshot draw the line with readiness.share.",
            )
        frame = feature_frame(tables, open_inflow(tables), scorer.scoring.features)
        model = scorer.scoring.model
        made = plan_capacity(
            model.probability(frame),
            model.interval(frame),
            scorer.scoring.grading,
            weekly_capacity=weekly,
            days=INFLOW_DAYS,
            value=_value(loaded.project),
        )
    if as_json:
        print_json(
            {
                "project": loaded.project.name,
                "as_of": format_instant(instant),
                "model": scorer.reference.model_dump(mode="json"),
                **made.to_document(),
                "sentence": made.sentence(),
            }
        )
        return
    people.print(f"[bold]{made.sentence()}[/]", soft_wrap=True)
    if made.open_leads == 0:
        return
    here, horizon = made.here, scorer.scoring.project.conversion.horizon_days
    people.print(
        f"In 9 of 10 weeks {here.week_low:,} to {here.week_high:,} of them do, within {horizon} days. Read from "
        f"{made.open_leads:,} open leads that arrived in the {made.days} days before {format_instant(instant)}.",
        soft_wrap=True,
    )
    people.print(_moves(made))


def _value(project: Project) -> Value | None:
    readiness = project.readiness
    if readiness.value_per_win is None or readiness.win_rate is None or readiness.cost_per_lead is None:
        return None
    return Value(readiness.win_rate, readiness.value_per_win, readiness.cost_per_lead)


def _moves(made: CapacityPlan) -> Table:
    table = Table(
        title="\nWhat moving the line would bring, per week", title_justify="left", box=box.SIMPLE_HEAD
    )
    priced = made.here.profit is not None
    headings = ["leads", "score", "chance", "convert", "90 % range", "+ leads", "+ convert", "per + lead"]
    for heading in [*headings, *(["profit", "+ profit"] if priced else [])]:
        table.add_column(heading, justify="right", no_wrap=True)

    def money(amount: float | None) -> str:
        return "-" if amount is None else f"{amount:,.0f}"

    def cells(place: Position) -> list[str]:
        return [
            _leads(place.leads),
            str(place.score),
            percent(place.line),
            f"{place.conversions:,.1f}",
            f"{place.low:,.1f} to {place.high:,.1f}",
        ]

    rows: list[tuple[float, list[str], str]] = [
        (1.0, [*cells(made.here), "now", "", "", *([money(made.here.profit), ""] if priced else [])], "bold")
    ]
    for move in made.moves:
        per_lead = "-" if move.per_extra_lead is None else f"{move.per_extra_lead:.3f}"
        differences = [_leads(move.extra_leads, "+"), f"{move.extra_conversions:+,.1f}", per_lead]
        worth = [money(move.to.profit), f"{move.extra_profit or 0.0:+,.0f}"] if priced else []
        rows.append((move.factor, [*cells(move.to), *differences, *worth], ""))
    for _, row, style in sorted(rows, key=lambda one: one[0]):
        table.add_row(*row, style=style)
    return table


def _leads(number: float, sign: str = "") -> str:
    """Half leads are told where there are few."""
    return f"{number:{sign},.1f}" if abs(number) < 20 else f"{number:{sign},.0f}"
