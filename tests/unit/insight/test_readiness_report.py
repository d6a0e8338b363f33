"""The readiness report: complete, self-contained, and safe whatever the user's columns are called."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from predictive_scoring.data.audit import audit_project
from predictive_scoring.data.sources import ProjectFile, Tables, open_tables
from predictive_scoring.insight.readiness_report import readiness_report
from predictive_scoring.settings import parse_project

HOSTILE = "<img src=x onerror=alert(1)>"
VOID = {"meta", "link", "img", "br", "input", "i/"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; refuses one that is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def log_tables(folder: Path, *, sales: int = 300, waived: bool = False) -> Tables:
    """A log of 40 weeks with hostile names and one attribute that only buyers have."""
    rng = np.random.default_rng(4)
    start, days = pd.Timestamp("2025-01-01", tz="UTC"), 280
    lead = np.array([f"L{number}" for number in range(800)])
    buyers = lead[rng.permutation(800)[:sales]]
    n = 6000
    events = pd.DataFrame(
        {
            "lead_id": [*rng.choice(lead, n), *buyers],
            "event_type": [*rng.choice(["visit", HOSTILE], n, p=[0.9, 0.1]), *["sale"] * sales],
            "occurred_at": start + pd.to_timedelta(rng.integers(0, days * 86_400, n + sales), unit="s"),
        }
    )
    events["event_id"] = [f"E{number}" for number in range(len(events))]
    leads = pd.DataFrame({"lead_id": lead, "created_at": start, "title": rng.choice(["a", "b"], 800)})
    leads[HOSTILE] = np.where(np.isin(lead, buyers), 1.0, np.where(rng.random(800) < 0.1, 1.0, np.nan))
    leads.to_parquet(folder / "leads.parquet")
    events.to_parquet(folder / "events.parquet")
    project = {
        "name": "report",
        "description": f"Who buys? {HOSTILE}",
        "sources": {"leads": {"path": "leads.parquet"}, "events": {"path": "events.parquet"}},
        "attributes": {
            "title": {"type": "category", "label": "Job title", "immutable": True},
            HOSTILE: {"type": "number", "label": f"Label {HOSTILE}", "immutable": True},
        },
        "leaks": {"stage": f"written by sales {HOSTILE}"},
        "events": {"visit": {"label": "Visit"}, "sale": {"label": "Sale"}},
        "conversion": {"event": "sale", "horizon": "30d"},
        "cutoffs": {"first": "2025-01-15T00:00:00Z", "every": "14d"},
        "feature_views": [],
        "readiness": {"share": 0.1},
    }
    if waived:
        project["waivers"] = [
            {"code": code, "feature": HOSTILE, "reason": f"asked on the form {HOSTILE}"}
            for code in ("PS130", "PS133", "PS134")
        ]
    return open_tables(
        ProjectFile(parse_project(yaml.safe_dump(project), "scoring.yaml"), folder / "scoring.yaml")
    )


def report(tables: Tables) -> str:
    return readiness_report(
        tables.project, audit_project(tables), tables.observed_until, {HOSTILE: f"Label {HOSTILE}"}
    )


@pytest.mark.parametrize(("sales", "waived"), [(300, False), (300, True), (4, False)])
def test_the_page_stands_alone_and_nothing_of_the_users_becomes_markup(
    tmp_path: Path, sales: int, waived: bool
) -> None:
    text = report(log_tables(tmp_path, sales=sales, waived=waived))
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "form", "a"}
    assert not {name for name in page.names if name.startswith("on") or name in ("src", "href", "srcset")}
    assert not re.search(r"https?:|url\(|@import", text)
    assert HOSTILE in page.text


def test_a_refused_page_says_what_to_do_first(tmp_path: Path) -> None:
    page = Page(report(log_tables(tmp_path)))
    for told in (
        "Not ready to train: answer for the suspected leaks first",
        "What to do first",
        "waivers:",
        "PS133",
        "Events per week",
        "What each feature tells alone",
        "Who has a value",
        "written by sales",
    ):
        assert told in page.text, told
    assert (
        page.text.index("What to do first") < page.text.index("Findings") < page.text.index("Events per week")
    )


def test_a_waiver_stands_beside_its_finding(tmp_path: Path) -> None:
    page = Page(report(log_tables(tmp_path, waived=True)))
    assert "Ready to train" in page.text
    assert f"Waived: asked on the form {HOSTILE}" in page.text


def test_the_same_tables_make_the_same_page(tmp_path: Path) -> None:
    first, second = (report(log_tables(tmp_path)) for _ in range(2))
    assert first == second


def test_a_snapshot_has_no_pictures_of_events(tmp_path: Path) -> None:
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"won": (rng.random(600) < 0.3).astype(int), "size": rng.normal(size=600)})
    frame.to_parquet(tmp_path / "rows.parquet")
    project = parse_project(
        "name: rows\nsources: {snapshot: {path: rows.parquet}}\nobserved_until: 2026-01-01T00:00:00Z\n"
        'conversion: {column: won, positive: "1", horizon: 30d}\n'
        "attributes: {size: {type: number, label: Size}}\nreadiness: {share: 0.1}\n",
        "scoring.yaml",
    )
    page = Page(report(open_tables(ProjectFile(project, tmp_path / "scoring.yaml"))))
    assert "Ready to train" in page.text
    assert "Events per week" not in page.text
    assert "What each feature tells alone" in page.text
