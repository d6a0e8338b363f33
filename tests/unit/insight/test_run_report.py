"""The report of a run: complete for every kind of run, self-contained, and safe whatever the user's columns say."""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser

import jinja2
import numpy as np
import pandas as pd
import pytest
import yaml
from matplotlib.figure import Figure
from scipy.special import expit

from predictive_scoring.features.definitions import AttributeFeature
from predictive_scoring.insight.pages import decimal, figure_svg, number, percent, prose, render
from predictive_scoring.insight.pages.run_facts import (
    Rows,
    RunFacts,
    concept_weights,
    level_effects,
    score_bands,
    segments,
)
from predictive_scoring.insight.pages.run_report import run_report
from predictive_scoring.model.evaluation import evaluate
from predictive_scoring.model.grading import learn_grading
from predictive_scoring.settings import Project, parse_project

HOSTILE = "<img src=x onerror=alert(1)>"
VOID = {"meta", "img", "br"}


class Page(HTMLParser):
    """Elements, attributes and text of a page; refuses one that is not well nested."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def project(**more: object) -> Project:
    document = {
        "name": "report",
        "description": f"Who buys? {HOSTILE}",
        "sources": {"snapshot": {"path": "rows.parquet"}},
        "observed_until": "2026-01-01T00:00:00Z",
        "conversion": {"column": "won", "positive": "1", "horizon": "30d"},
        "attributes": {
            "size": {"type": "number", "label": f"Size {HOSTILE}"},
            "title": {"type": "category", "label": "Job title"},
        },
        "leaks": {"stage": f"written by sales {HOSTILE}"},
        "readiness": {"share": 0.1},
        **more,
    }
    return parse_project(yaml.safe_dump(document), "scoring.yaml")


def facts(
    n: int = 600, *, rate: float = 0.3, held_out: bool = True, seed: int = 1, **more: object
) -> RunFacts:
    """A run on n rows of two features, one number with gaps and one category; the model is right by construction."""
    draw = np.random.default_rng(seed)
    size = np.where(draw.random(n) < 0.2, np.nan, draw.normal(size=n))
    title = draw.choice(["chief", "clerk", HOSTILE], n, p=[0.5, 0.45, 0.05]).astype(object)
    share = np.column_stack([np.nan_to_num(size), np.where(title == "chief", 0.5, -0.5)])
    z = np.log(rate / (1 - rate)) + share.sum(axis=1)
    labels = (draw.random(n) < expit(z)).astype(np.int64)
    shown = np.arange(0, n, 2)
    measures = {"test": evaluate(labels, expit(z)).to_document()} if held_out else {}
    return RunFacts(
        project=more.pop("project", None) or project(),
        features=[
            AttributeFeature("size", "number", f"Size {HOSTILE}", "Firm"),
            AttributeFeature("title", "category", "Job title", "Role"),
        ],
        grading=learn_grading(z, z, z, ready_share=0.1),
        verdict="validated",
        reasons=["Log-loss 0.5 is better than 0.6.", f"A reason {HOSTILE}"],
        rows=Rows(
            pd.DataFrame({"size": size, "title": title}),
            labels,
            np.array([f"L{number // 2}" for number in range(n)], dtype=object),
            expit(z),
            shown,
            share[shown],
        ),
        held_out=held_out,
        measures=measures,
        periods={"test" if held_out else "train": {"examples": n, "conversions": int(labels.sum())}},
        known_base_rate=rate,
        evidence={"basis": "ridge", "conversions": 40, "examples": 900},
        provenance={"Seed": "7", "Data hash": "abc"},
        trials=[
            {"ridge_penalty": penalty, "half_life": None, "log_loss": 0.5 + penalty / 1e4}
            for penalty in (1, 10, 100)
        ],
        chosen={"ridge_penalty": 10, "half_life": None, "log_loss": 0.501},
        waived=[
            {
                "code": "PS130",
                "feature": HOSTILE,
                "reason": "knows",
                "evidence": ["AUC .9"],
                "waiver": HOSTILE,
            }
        ],
        set_aside={"title": f"silence {HOSTILE}"},
        **more,
    )


@cache
def judged_page() -> str:
    return run_report(facts())


EVERYWHERE = (
    "What this model is",
    "Data",
    "Scores",
    "What the model looks at",
    "What it should not be used for",
)
JUDGED = ("Does 10 % mean 10 %?", "What working the best leads first brings", "Quality by group of leads")


def test_the_page_stands_alone_and_nothing_of_the_users_becomes_markup() -> None:
    text = judged_page()
    page = Page(text)
    assert not page.tags & {"script", "img", "link", "iframe", "object", "form", "a", "foreignobject"}
    for name, value in page.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href", "srcset"):
            assert value.startswith(("#", "data:image/png;base64,")), (name, value[:60])
    assert not re.search(r"https?:|@import|url\((?!#)", text)
    assert HOSTILE in page.text
    assert len(text) < 2_000_000


def test_a_judged_run_is_told_whole() -> None:
    page = Page(judged_page())
    for told in (
        *EVERYWHERE,
        *JUDGED,
        "Conversions per worked lead",
        "Settings that were tried",
        "chosen",
        "Validated",
    ):
        assert told in page.text, told
    for told in ("Waived", "PS130", "written by sales", "Set aside, because silence", "a ridge regression"):
        assert told in page.text, told
    assert "What cannot be shown yet" not in page.text


def test_every_section_that_needs_it_says_how_it_is_read() -> None:
    text = judged_page()
    for section in re.findall(r"<section>.*?</section>", text, re.DOTALL):
        if "<svg" in section:
            assert "What it shows" in section, section[:80]
            assert "How to read it" in section, section[:80]
            assert "What to do" in section, section[:80]


def test_a_rejected_run_says_so_first() -> None:
    page = Page(run_report(replace(facts(), verdict="rejected")))
    assert "Rejected: it should not be used" in page.text
    assert "may be promoted" not in page.text


def test_a_cold_start_shows_the_models_view_and_says_what_cannot_be_shown() -> None:
    page = Page(run_report(facts(40, held_out=False)))
    for told in (*EVERYWHERE, "What cannot be shown yet", "Not judged"):
        assert told in page.text, told
    for hidden in (*JUDGED, "Measures", "Conversions per worked lead"):
        assert hidden not in page.text, hidden


@pytest.mark.parametrize(("n", "rate"), [(1, 0.5), (30, 0.02), (30, 0.98), (400, 1e-6)])
def test_a_test_period_may_be_tiny_or_one_sided(n: int, rate: float) -> None:
    page = Page(run_report(facts(n, rate=rate)))
    assert "Few conversions" in page.text or n > 30 or rate > 0.9
    assert "nan" not in re.sub(r"\w*nan\w+|\w+nan\w*", "", page.text.lower())


def test_money_is_told_where_it_is_declared() -> None:
    declared = project(readiness={"value_per_win": 900.0, "win_rate": 0.2, "cost_per_lead": 30.0})
    page = Page(run_report(facts(project=declared)))
    assert "Money made on the test period" in page.text
    assert "Conversions per worked lead" not in page.text


def test_without_categories_trials_and_leaks_the_page_is_shorter_but_whole() -> None:
    made = facts()
    bare = replace(
        made,
        project=project(attributes={"size": {"type": "number", "label": "Size"}}, leaks={}),
        features=made.features[:1],
        rows=replace(made.rows, contributions=made.rows.contributions[:, :1]),
        trials=(),
        chosen=None,
        waived=(),
        set_aside={},
        evidence=None,
        known_base_rate=None,
    )
    page = Page(run_report(bare))
    assert "Nothing was suspected and nothing set aside" in page.text
    assert "Quality by group of leads" not in page.text
    assert "Settings that were tried" not in page.text


def test_the_same_facts_make_the_same_page() -> None:
    assert run_report(facts()) == judged_page()


def test_a_group_too_small_is_told_so_and_others_are_measured() -> None:
    (titles,) = segments(facts(600))
    by_level = {row.level: row for row in titles.rows}
    assert by_level["chief"].auc is not None
    assert by_level["chief"].off is None
    assert by_level[HOSTILE].auc is None
    assert by_level["chief"].examples == 600 - by_level["clerk"].examples - by_level[HOSTILE].examples


def test_a_group_that_is_promised_too_little_is_marked_and_right_ones_are_not() -> None:
    made = facts(4000)
    wrong = np.where(made.rows.frame["title"] == "clerk", made.rows.probability / 2, made.rows.probability)
    (titles,) = segments(replace(made, rows=replace(made.rows, probability=wrong)))
    assert {row.level: row.off for row in titles.rows if row.auc is not None} == {
        "chief": None,
        "clerk": "more",
        HOSTILE: None,
    }


def test_groups_are_seldom_marked_by_chance() -> None:
    marked = sum(any(row.off for row in segments(facts(800, seed=seed))[0].rows) for seed in range(40))
    assert marked <= 10  # 10 % of 40, and what chance adds to that in 99 of 100 such counts


def test_concepts_are_ranked_by_how_far_they_move_scores() -> None:
    weights = concept_weights(facts())
    assert [one.name for one in weights] == ["Role", "Firm"] or [one.name for one in weights] == [
        "Firm",
        "Role",
    ]
    assert weights[0].points >= weights[1].points
    role = next(one for one in weights if one.name == "Role")
    assert role.points == pytest.approx(0.5 * 10 / np.log(2))


def test_effects_of_levels_are_mean_points() -> None:
    effects = {one.level: one.points for one in level_effects(facts(), 1)}
    assert effects["chief"] == pytest.approx(0.5 * 10 / np.log(2))
    assert effects["clerk"] == pytest.approx(-0.5 * 10 / np.log(2))


def test_bands_of_scores_hold_every_lead_once() -> None:
    made = facts()
    bands = score_bands(made)
    assert sum(one.share for one in bands) == pytest.approx(1.0)
    assert sum(one.conversions for one in bands) == made.rows.labels.sum()
    assert [(one.low, one.high) for one in bands][0::5] == [(70, 99), (1, 29)]


def picture() -> Figure:
    figure = Figure(figsize=(3, 2))
    axes = figure.subplots()
    axes.set_title("A & B <c>", loc="left")
    axes.plot([0, 1], [1, 0])
    return figure


def test_a_picture_is_the_same_for_the_same_figure_and_takes_no_name_from_another() -> None:
    first, second = figure_svg(picture()), figure_svg(picture())
    assert first == second
    assert 'aria-label="A &amp; B &lt;c&gt;"' in first
    assert not re.search(r'<g id=|<style|http|font-family|"Date"', first)
    Page(str(first))


def test_a_fact_that_is_not_given_is_an_error() -> None:
    with pytest.raises(jinja2.UndefinedError):
        render("run_report.html", project=project())
    with pytest.raises(jinja2.TemplateNotFound):
        render("absent.html")


def test_figures_for_people() -> None:
    assert [number(12345.6), number(1.25, 1), number(None), number(float("nan"))] == [
        "12,346",
        "1.2",
        "–",
        "–",
    ]
    assert [percent(0.0123), percent(0.25), percent(0.0), percent(None)] == ["1.2 %", "25 %", "0 %", "–"]
    assert [decimal(0.12345), decimal(None)] == ["0.123", "–"]
    assert prose("a < `b<c` & d") == "a &lt; <code>b&lt;c</code> &amp; d"
