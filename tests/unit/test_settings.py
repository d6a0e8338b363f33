"""The project file: what it accepts, and each refusal with its line."""

from __future__ import annotations

from pathlib import Path

import pytest

from predictive_scoring.errors import InvalidDocument
from predictive_scoring.settings import Project, parse_project
from predictive_scoring.timeline import DAY

PROJECTS = Path(__file__).parents[2] / "data" / "projects"

LOG = """\
name: demo
sources: {leads: {path: leads.csv}, events: {path: events.csv}}
attributes:
  title: {type: category, label: Title, immutable: true}
events: {page_view: {label: Page view}, won: {label: Won}}
event_properties: {topic: category}
conversion: {event: won, horizon: 30d}
cutoffs: {first: 2026-01-01T00:00:00Z, every: 7d}
feature_views:
  - visits
  - name: mine
    features:
      - {aggregate: count, events: [page_view], label: Views, concept: Visits, window: 7d}
readiness: {share: 0.1}
"""
SNAPSHOT = """\
name: demo
sources: {snapshot: {path: rows.csv}}
attributes:
  title: {type: category, label: Title}
conversion: {column: y, positive: "yes", horizon: 30d}
observed_until: 2026-01-01T00:00:00Z
readiness: {share: 0.1}
"""


@pytest.mark.parametrize("name", ["sample", "bank_marketing", "complete_journey"])
def test_the_shipped_project_files_are_read(name: str) -> None:
    project = parse_project((PROJECTS / name / "scoring.yaml").read_text("utf-8"), name)
    assert project.name == name
    assert project.is_snapshot == (name == "bank_marketing")
    assert project.conversion.horizon == {"complete_journey": 120 * DAY}.get(name, 30 * DAY)
    # A bundle keeps the project as plain JSON, times as numbers; it must be read back to the same.
    assert Project.model_validate(project.model_dump(mode="json")) == project


def test_durations_and_instants_are_held_in_seconds() -> None:
    project = parse_project(LOG, "demo.yaml")
    assert project.cutoffs is not None
    assert (project.cutoffs.first, project.cutoffs.every) == (1_767_225_600, 7 * DAY)
    assert project.conversion.horizon_days == 30
    assert not project.is_snapshot
    assert parse_project(SNAPSHOT, "demo.yaml").observed_until == 1_767_225_600


# The text that is replaced, what stands there instead, the line of the complaint, and a part of it.
REFUSALS = {
    "unknown key": (LOG, "name: demo", "name: demo\ncolor: 1", 2, "unknown key 'color'"),
    "unknown key of a feature": (LOG, "window: 7d", "windw: 7d", 13, "unknown key 'feature_views.1.features.0.windw'"),
    "unknown key of a source": (LOG, "path: events.csv", "file: e.csv", 2, "unknown key 'sources.events.file'"),
    "missing key": (LOG, "readiness: {share: 0.1}", "", 1, "'readiness' is missing"),
    "wrong type": (LOG, "type: category", "type: text", 4, "attributes.title.type: Input should be"),
    "bad name": (LOG, "name: demo", "name: 1 demo!", 1, "name: String should match"),
    "naive day": (LOG, "2026-01-01T00:00:00Z", "2026-01-01", 8, "has no time zone"),
    "naive instant": (LOG, "2026-01-01T00:00:00Z", "2026-01-01T00:00:00", 8, "has no time zone"),
    "number for an instant": (LOG, "2026-01-01T00:00:00Z", "20260101", 8, "an instant has an offset"),
    "no time": (LOG, "2026-01-01T00:00:00Z", "soon", 8, "'soon' is not a time"),
    "no duration": (LOG, "horizon: 30d", "horizon: a month", 7, "'a month' is not a duration"),
    "duration without a unit": (LOG, "horizon: 30d", "horizon: 30", 7, "a duration has a unit"),
    "window without a unit": (LOG, "window: 7d", "window: 7", 13, "a duration has a unit"),
    "yes for a duration": (LOG, "horizon: 30d", "horizon: yes", 7, "a duration has a unit"),
    "no duration at all": (LOG, "every: 7d", "every: 0d", 8, "'0d' is not a duration"),
    "undeclared conversion": (LOG, "event: won", "event: sold", 1, "'sold' is not among `events`"),
    "made event declared": (LOG, "{page_view:", "{lead_created: {label: L}, page_view:", 1, "must not be declared"),
    "mutable attribute": (LOG, ", immutable: true", "", 1, "must say `immutable: true`"),
    "leak that is read": (LOG, "name: demo", "name: demo\nleaks: {title: late}", 1, "a leak and an attribute"),
    "no way in": (LOG, "{path: leads.csv}", "{}", 2, "give one of `path`, `sql`"),
    "two ways in": (LOG, "{path: leads.csv}", "{path: a.csv, sql: SELECT 1}", 2, "give one of `path`, `sql`"),
    "files without a query": (LOG, "{path: leads.csv}", "{path: a.csv, tables: {a: a.csv}}", 2, "write the query"),
    "never changes and has a history": (
        LOG, "immutable: true", "immutable: true, history: true", 4, "needs no history"
    ),
    "history without changes": (LOG, "immutable: true", "history: true", 1, "`sources.attribute_changes` is needed"),
    "raw column without a transform": (LOG, "immutable: true", "immutable: true, of: job", 4, "of a `transform`"),
    "personal data as a feature": (LOG, "immutable: true", "immutable: true, pii: true", 4, "no feature"),
    "waiver without a reason": (
        LOG, "name: demo", "name: demo\nwaivers: [{code: PS130, feature: title, reason: ok}]", 2, "at least 10"
    ),
    "undeclared property excluded": (
        LOG, "{page_view: {", "{page_view: {exclude: {bot: true}, ", 1, "exclude reads the property 'bot'"
    ),
    "leads without events": (LOG, ", events: {path: events.csv}}", "}", 2, "give `leads` and `events`"),
    "two conversions": (LOG, "{event: won,", "{event: won, column: y, positive: a,", 7, "give `event`"),
    "no cutoffs": (LOG, "cutoffs: {first: 2026-01-01T00:00:00Z, every: 7d}", "", 1, "an event log needs `cutoffs`"),
    "half a grid": (LOG, ", every: 7d", "", 8, "give `every` and `first`"),
    "grid and creation": (LOG, "every: 7d", "every: 7d, at: created_at", 8, "`at` stands alone"),
    "two lines of readiness": (LOG, "share: 0.1", "share: 0.1, weekly_capacity: 5", 14, "give one of"),
    "no line of readiness": (LOG, "{share: 0.1}", "{}", 14, "give one of"),
    "half a value rule": (LOG, "share: 0.1", "win_rate: 0.5", 14, "the value rule needs"),
    "nothing left to train on": (LOG, "name: demo", "name: demo\nsplit: {calibrate: 0.5, test: 0.5}", 2, "leave rows"),
    "property named as a column": (LOG, "{topic:", "{occurred: number, topic:", 1, "'occurred' is a column of every"),
    "attribute named as a column": (LOG, "  title: ", "  created: ", 1, "'created' is read for something else"),
    "consent as an attribute": (
        LOG, "name: demo", "name: demo\ncontact: {consent: {email: title}}", 1, "'title' is read for something else"
    ),
    "snapshot and log": (SNAPSHOT, "{snapshot:", "{leads: {path: a.csv}, snapshot:", 2, "`snapshot` stands alone"),
    "outcome as an attribute": (SNAPSHOT, "  title: ", "  y: ", 1, "'y' is read for something else"),
    "conversion without its value": (SNAPSHOT, 'positive: "yes", ', "", 5, "`column` needs `positive`"),
    "snapshot with cutoffs": (SNAPSHOT, "name: demo", "name: demo\ncutoffs: {at: created_at}", 1, "no history"),
    "snapshot of no date": (SNAPSHOT, "observed_until: 2026-01-01T00:00:00Z", "", 1, "needs `observed_until`"),
    "snapshot with a weekly rule": (SNAPSHOT, "share: 0.1", "weekly_capacity: 5", 1, "no inflow per week"),
    "snapshot with a history": (SNAPSHOT, "label: Title", "label: Title, history: true", 1, "remove `history`"),
    "snapshot without attributes": (
        SNAPSHOT, "attributes:\n  title: {type: category, label: Title}\n", "", 1, "needs `attributes`"
    ),
    "snapshot with an event": (SNAPSHOT, '{column: y, positive: "yes",', "{event: won,", 1, "needs conversion.column"),
}  # fmt: skip


@pytest.mark.parametrize(("text", "old", "new", "line", "what"), REFUSALS.values(), ids=list(REFUSALS))
def test_a_project_that_cannot_be_meant_is_refused_on_its_line(
    text: str, old: str, new: str, line: int, what: str
) -> None:
    assert text.count(old) == 1
    with pytest.raises(InvalidDocument) as refused:
        parse_project(text.replace(old, new), "demo.yaml")
    assert what in refused.value.what
    assert refused.value.where == f"demo.yaml, line {line}"
    assert refused.value.remedy
    assert refused.value.exit_code == 2


def test_a_project_is_frozen() -> None:
    project = parse_project(LOG, "demo.yaml")
    with pytest.raises(ValueError, match="frozen"):
        project.seed = 8  # type: ignore[misc]
