"""Verbs that use the champion: score, explain."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

from rich import box
from rich.table import Table

from predictive_scoring.cli.opening import champion_and_tables
from predictive_scoring.cli.output import aside, counted, people, percent, print_json, show, steps
from predictive_scoring.data.earlier_scores import read_earlier_scores
from predictive_scoring.data.engines import Engine, open_engine
from predictive_scoring.data.sinks import write_scores
from predictive_scoring.data.sources import Tables
from predictive_scoring.errors import InvalidSetting
from predictive_scoring.insight.explanation import probability_points, spoken_value
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.keeping.vectors import FOLDER, VectorLog, sample
from predictive_scoring.schema import (
    REFERENCE_SCORE,
    SCORE_POINTS_PER_LOG_ODDS,
    Explanation,
    ExplanationRow,
    Score,
)
from predictive_scoring.scoring import Scorer, Served
from predictive_scoring.timeline import format_instant


def score(
    project: Path,
    as_of: str | None,
    leads: tuple[str, ...],
    top: int,
    out: Path | None,
    models: Path,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
    *,
    keep_vectors: float = 0.0,
    now: int = 0,
    previous: Path | None = None,
    shadow: tuple[str, str] | None = None,
) -> None:
    """Score stored leads; print the best, or everything as JSON. Of the feature vectors the share `keep_vectors`
    is kept for `replay`, as served `now` (epoch seconds). `previous` is an earlier file of scores: leads keep its
    readiness unless they clearly crossed the line. `shadow` (version, registry) scores with another version, of which
    no vector is kept: nothing was served."""
    earlier = read_earlier_scores(previous) if previous is not None else None
    with champion_and_tables(project, as_of, models, engine, shadow) as (
        loaded,
        scorer,
        tables,
        instant,
    ):
        if earlier is not None and (earlier.as_of or instant) > instant:
            raise InvalidSetting(
                what=f"the earlier scores are of {format_instant(earlier.as_of or 0)}, after {format_instant(instant)}",
                where=str(previous),
                remedy="Name the scores made before these.",
            )
        sides = earlier.readiness if earlier is not None else None
        if tables.engine.name == "spark" and out is not None and out.suffix == ".parquet" and not leads:
            if previous is not None:
                raise InvalidSetting(
                    what="a Spark job reads no earlier scores: its executors judge each lead alone",
                    where="--previous",
                    remedy="Leave it out, or write the scores as .jsonl or .csv.",
                )
            _score_on_spark(scorer, models / loaded.project.name, tables, instant, out, as_json, keep_vectors)
            return
        folder = models / loaded.project.name / FOLDER
        # Beyond the end of the history a vector rightly changes when more of it arrives.
        kept = keep_vectors if instant <= tables.observed_until and shadow is None else 0.0
        served = _keeping(VectorLog(folder), kept, now) if kept else None
        if leads:
            scores = [scorer.score(tables.lead(lead), instant, served, sides) for lead in leads]
        else:
            with counted("scoring leads") as progress:
                scores = list(
                    scorer.score_tables(tables, instant, progress=progress, served=served, previous=sides)
                )
    if out is not None:
        write_scores(out, scores)
    if as_json:
        print_json(
            {
                "project": loaded.project.name,
                "as_of": format_instant(instant),
                "model": scorer.reference.model_dump(mode="json"),
                "scores": [document.model_dump(mode="json") for document in scores],
            }
        )
        return
    _print_ranked(scores, top, instant, scorer)
    if out is not None:
        people.print(f"All {len(scores):,} scores: {out}")


def _score_on_spark(
    scorer: Scorer, store: Path, tables: Tables, instant: int, out: Path, as_json: bool, keep_vectors: float
) -> None:
    """Score as one Spark job, whose rows never come here; tell what it wrote."""
    from predictive_scoring.spark_scoring import score_on_spark

    if keep_vectors:
        raise InvalidSetting(
            what="a Spark job keeps no feature vectors: they would lie on the executors",
            where="--keep-vectors",
            remedy="Leave it out, or write the scores as .jsonl or .csv.",
        )
    with steps(f"scoring {len(tables.leads):,} leads on Spark"):
        written = score_on_spark(scorer, BundleStore(store).path(scorer.identity), tables, instant, out)
    if as_json:
        print_json(
            {
                "project": scorer.reference.name,
                "as_of": format_instant(instant),
                "model": scorer.reference.model_dump(mode="json"),
                "out": str(out),
                "rows": written.rows,
                "parts": written.parts,
                "statuses": [
                    {"status": status, "status_reason": reason, "rows": number}
                    for (status, reason), number in written.statuses.items()
                ],
            }
        )
        return
    people.print(
        f"{written.rows:,} rows in {written.parts:,} parts at {format_instant(instant)}: {out}",
        soft_wrap=True,
    )
    for (_, reason), number in written.statuses.items():
        if reason is not None:
            people.print(f"{number:,} leads have no score: {reason.replace('_', ' ')}")


def _keeping(log: VectorLog, share: float, now: int) -> Served:
    def keep(scores: Sequence[Score], values: Sequence[Mapping[str, Any]]) -> None:
        outcome = log.append(sample(scores, values, share=share, source="stored", served_at=now))
        if outcome.lost or outcome.full:
            reason = outcome.reason or "the file of the day is full"
            aside.print(f"{outcome.lost + outcome.full:,} feature vectors were not kept: {reason}")

    return keep


def _print_ranked(scores: list[Score], top: int, instant: int, scorer: Scorer) -> None:
    ranked = sorted(
        (s for s in scores if s.status == "scored"), key=lambda s: (-(s.probability or 0), s.lead_id)
    )
    table = Table(
        title=f"{scorer.reference.name} at {format_instant(instant)}: best {min(top, len(ranked))} of {len(ranked):,}",
        box=box.SIMPLE_HEAD,
        padding=(0, 1, 0, 0),
    )
    width = max((len(document.lead_id) for document in ranked[:top]), default=4)
    for heading, least in (("lead", width), ("score", 5), ("grade", 5), ("trend", 5), ("p", 6)):
        justify: Literal["left", "right"] = "left" if heading in ("lead", "grade") else "right"
        table.add_column(heading, no_wrap=True, min_width=least, justify=justify)
    table.add_column("top reason", no_wrap=True, overflow="ellipsis")
    table.add_column("next action", no_wrap=True, overflow="ellipsis")
    for document in ranked[:top]:
        table.add_row(
            document.lead_id,
            show(document.score),
            show(document.grade),
            "-" if document.trend is None else f"{document.trend.change:+d}",
            percent(document.probability),
            document.reasons[0].text if document.reasons else "-",
            _next(document),
        )
    people.print(table)
    for reason, number in Counter(s.status_reason for s in scores if s.status != "scored").most_common():
        people.print(f"{number:,} leads have no score: {show(reason).replace('_', ' ')}")


def _next(document: Score) -> str:
    if document.actions:
        return document.actions[0].label
    return "hand to sales" if document.readiness == "ready" else f"none: {show(document.actions_reason)}"


def explain(
    project: Path,
    lead: str,
    as_of: str | None,
    models: Path,
    as_json: bool,
    engine: Callable[[], Engine] = open_engine,
) -> None:
    """Print one lead's score with its reasons and actions."""
    with champion_and_tables(project, as_of, models, engine) as (_, scorer, tables, instant):
        document = scorer.score(tables.lead(lead), instant)
    if as_json:
        print_json(document.model_dump(mode="json"))
        return
    if document.status != "scored" or document.explanation is None or document.interval is None:
        people.print(f"{lead} has no score at {document.as_of}: {document.status_reason}")
        return
    low, high = document.interval
    people.print(
        f"[bold]{lead}[/] at {document.as_of}: score [bold]{document.score}[/], grade {document.grade}, "
        f"{document.readiness}, stage {document.stage or '-'}"
    )
    people.print(
        f"{percent(document.probability)} convert within {document.horizon_days} days; "
        f"leads with this score: {percent(low)} to {percent(high)}"
    )
    people.print("\n[bold]Why[/]")
    for reason in document.reasons:
        people.print(f"  {reason.points:+4d}  {reason.text}", markup=False)
    people.print(_contributions(document.explanation, scorer))
    people.print("\n[bold]Next actions[/]")
    for action in document.actions:
        wait = f" (not before {action.wait_until})" if action.wait_until else ""
        people.print(f"  {action.label} ({action.channel}){wait}: {action.why}", markup=False)
    if not document.actions:
        people.print(f"  none: {document.actions_reason}")


def _contributions(explanation: Explanation, scorer: Scorer, most: int = 15) -> Table:
    """The largest contributions in score points and as shares of the chance; both columns add up."""
    table = Table("feature", "value", title="\nEvery contribution", title_justify="left")
    for heading in ("score points", "chance"):
        table.add_column(heading, justify="right")
    by_name = {feature.name: feature for feature in scorer.features}
    chances = probability_points(explanation)
    reference = scorer.scoring.grading.reference_log_odds

    def score_at(log_odds: float) -> float:
        return REFERENCE_SCORE + (log_odds - reference) * SCORE_POINTS_PER_LOG_ODDS

    def share(label: str, value: str, rows: Sequence[ExplanationRow]) -> None:
        points = SCORE_POINTS_PER_LOG_ODDS * sum(row.contribution for row in rows)
        chance = sum(chances[row.feature] for row in rows)
        table.add_row(label, value, f"{points:+.1f}", f"{100 * chance:+.2f} %")

    def whole(label: str, log_odds: float) -> None:
        table.add_row(label, "", f"{score_at(log_odds):.1f}", percent(1 / (1 + math.exp(-log_odds)), 2))

    whole("a typical lead (50 converts at the average rate)", explanation.base)
    for row in explanation.rows[:most]:
        share(
            row.label, spoken_value(by_name[row.feature], row.value) if row.feature in by_name else "", [row]
        )
    share("all other factors", "", explanation.rows[most:])
    whole("this lead, before rounding", explanation.output)
    return table
