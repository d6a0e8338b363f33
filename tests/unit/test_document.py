"""YAML against a model: every complaint names key and line, and nothing but a named refusal escapes."""

from __future__ import annotations

from typing import Annotated

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from predictive_scoring.document import parse_document, parse_yaml
from predictive_scoring.errors import InvalidDocument


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Step(Strict):
    name: str
    size: int = 1


class Plan(Strict):
    title: str
    steps: tuple[str | Step, ...] = ()
    named: dict[Annotated[str, Field(pattern="^[a-z]+$")], Step] = Field(default_factory=dict)
    first: Step | None = None


def refusal(text: str) -> InvalidDocument:
    with pytest.raises(InvalidDocument) as refused:
        parse_document(text, "plan.yaml", Plan, described_in="docs/plan.md")
    return refused.value


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        pytest.param("title: x\ncolour: red\n", 2, "unknown key 'colour'", id="unknown key"),
        pytest.param(
            "title: x\nfirst:\n  name: a\n  sise: 2\n", 4, "unknown key 'first.sise'", id="nested unknown key"
        ),
        pytest.param(
            "title: x\nsteps:\n  - a\n  - name: b\n    sise: 2\n",
            5,
            "unknown key 'steps.1.sise'",
            id="unknown key where text or a block may stand",
        ),
        pytest.param(
            "title: x\nsteps:\n  - {size: 2}\n", 3, "key 'steps.0.name' is missing", id="missing in a block"
        ),
        pytest.param("title: x\nsteps:\n  - 3\n", 3, "steps.0: Input should be", id="neither text nor block"),
        pytest.param(
            "title: x\nsteps:\n  - name: b\n    size: big\n",
            4,
            "steps.0.size: Input should be",
            id="wrong type",
        ),
        pytest.param(
            "title: x\nnamed:\n  a: {name: n}\n  B2: {name: n}\n", 4, "named.B2: String should", id="bad name"
        ),
        pytest.param("steps: []\n", 1, "the required key 'title' is missing", id="missing key"),
        pytest.param("title: [x]\n", 1, "title: Input should be a valid string", id="list for text"),
        pytest.param(
            "title: x\nfirst: {name: a}\ntitle: y\n", 3, "the key 'title' stands twice", id="duplicate key"
        ),
        pytest.param(
            "title: x\nfirst:\n  name: a\n  name: b\n",
            4,
            "'name' stands twice in first",
            id="nested duplicate",
        ),
        pytest.param("title: x\nsteps: &all\n  - *all\n", 2, "contains itself", id="cyclic list"),
        pytest.param("title: x\nfirst: &me\n  name: *me\n", 2, "contains itself", id="cyclic block"),
        pytest.param("title: x\n\tfirst: {}\n", 2, "not valid YAML", id="tab"),
        pytest.param("title: x\nsteps: [a\nfirst: {}\n", 3, "not valid YAML", id="bracket left open"),
        pytest.param("title: x\nfirst: *nobody\n", 2, "undefined alias", id="unknown anchor"),
        pytest.param("title: x\n---\ntitle: y\n", 2, "another document", id="two documents"),
        pytest.param("title: x\n? [a, b]\n: 1\n", 2, "a key must be text", id="list as key"),
        pytest.param(
            "title: x\nfirst: !thing {name: a}\n", None, None, id="tagged block is read as a plain block"
        ),
        pytest.param("title: x\nfirst:\n  name: !thing a\n", 3, "is not a plain value", id="unknown tag"),
        pytest.param(
            "title: x\nfirst:\n  size: !!int big\n", 3, "is not a plain value", id="tag that does not fit"
        ),
        pytest.param("- title\n", 1, "the document: Input should be", id="list for a block"),
        pytest.param("title\n", 1, "the document: Input should be", id="text for a block"),
    ],
)
def test_a_complaint_names_the_key_and_its_line(text: str, line: int | None, what: str | None) -> None:
    if what is None:
        assert parse_document(text, "plan.yaml", Plan, described_in="docs/plan.md").title == "x"
        return
    refused = refusal(text)
    assert what in refused.what
    assert refused.where == f"plan.yaml, line {line}"
    assert refused.remedy


def test_an_unknown_key_is_answered_with_the_keys_that_stand_there() -> None:
    assert refusal("title: x\ncolour: red\n").remedy == "Known keys here: first, named, steps, title."
    for text in (
        "first: {name: a, sise: 2}",
        "steps: [{name: a, sise: 2}]",
        "named: {a: {name: a, sise: 2}}",
    ):
        assert refusal(f"title: x\n{text}\n").remedy == "Known keys here: name, size."


def test_further_complaints_are_counted() -> None:
    assert "(1 further complaint in this file.)" in refusal("colour: red\n").remedy
    assert (
        "(2 further complaints in this file.)"
        in refusal("colour: red\nsteps: [{name: a, size: big}]\n").remedy
    )


@pytest.mark.parametrize("text", ["", "   \n", "# only a comment\n"])
def test_an_empty_document_is_refused(text: str) -> None:
    assert "empty" in refusal(text).what


@pytest.mark.parametrize("text", ["[" * 5000, "a: " + "{b: " * 3000, "title: x\x00", "title: \x07"])
def test_a_hostile_text_is_refused_by_name(text: str) -> None:
    assert "plan.yaml" in refusal(text).where


def test_times_stay_text_and_plain_values_are_plain() -> None:
    parsed = parse_yaml(
        "day: 2026-03-01\nat: 2026-03-01T00:00:00Z\nn: 3\nx: 1.5\nyes: no\nnothing: ~\n'3': '3'\n",
        "some.yaml",
    )
    assert parsed.value == {
        "day": "2026-03-01",
        "at": "2026-03-01T00:00:00Z",
        "n": 3,
        "x": 1.5,
        "yes": False,
        "nothing": None,
        "3": "3",
    }


def test_an_alias_that_is_no_cycle_may_be_used_twice() -> None:
    parsed = parse_yaml("a: &one {x: [1, 2]}\nb: *one\nc: [*one]\n", "some.yaml")
    assert parsed.value["b"] == parsed.value["a"] == parsed.value["c"][0] == {"x": [1, 2]}


def test_a_line_is_that_of_the_deepest_known_key() -> None:
    parsed = parse_yaml("a:\n  b:\n    - c\n    - d: 1\n", "some.yaml")
    assert [
        parsed.line(path) for path in ((), ("a",), ("a", "b"), ("a", "b", 1), ("a", "b", 1, "d", "x"), ("z",))
    ] == [
        1,
        1,
        2,
        4,
        4,
        1,
    ]


@settings(max_examples=300, deadline=None, print_blob=True)
@given(st.text(alphabet=st.sampled_from("ab:-[]{}&*!|>'\"#%@`?,~<= \n\t.0129TZ_\\"), max_size=40))
@example("! a")
@example("a: !!set {x}")
@example("- !!float x")
@example("2026-99-99")
@example("<<: 1")
@example("a: !!binary é")
@example("a: 0x")
@example("a: 09:99")
def test_any_text_is_read_or_refused_by_name(text: str) -> None:
    try:
        parse_yaml(text, "any.yaml")
    except InvalidDocument as refused:
        assert "any.yaml" in refused.where  # noqa: PT017 - both ends are allowed
