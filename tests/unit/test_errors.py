"""The error tree: drawn, named, with exit codes, and able to cross a process border."""

from __future__ import annotations

import inspect
import pickle  # noqa: TID251 - child processes send refusals through it
import re

import pytest

from predictive_scoring import errors
from predictive_scoring.errors import (
    EnvironmentMissing,
    GateRefused,
    InputError,
    NaiveTimestamp,
    PredictiveScoringError,
)

CLASSES = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, PredictiveScoringError)
}


def drawn() -> dict[str, tuple[str | None, int | None]]:
    """Parent and exit code of every class in the tree at the head of the module."""
    answer: dict[str, tuple[str | None, int | None]] = {}
    above: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^( {4}[│├└─ ]*)([A-Z]\w+)\b(.*)$", line)
        if not found:
            continue
        depth = len(found[1])
        above = [(at, name) for at, name in above if at < depth]
        code = re.search(r"\(exit (\d)", found[3])
        answer[found[2]] = (above[-1][1] if above else None, int(code[1]) if code else None)
        above.append((depth, found[2]))
    return answer


def test_the_drawn_tree_and_the_classes_are_the_same() -> None:
    tree = drawn()
    assert set(tree) == set(CLASSES)
    for name, (parent, _) in tree.items():
        assert parent == (
            None if name == "PredictiveScoringError" else CLASSES[name].__bases__[0].__name__
        ), name


def test_exit_codes_are_as_drawn_and_inherited() -> None:
    for name, (_, code) in drawn().items():
        if code is not None:
            assert CLASSES[name].exit_code == code
    assert (InputError.exit_code, GateRefused.exit_code, EnvironmentMissing.exit_code) == (2, 3, 4)
    for kind in CLASSES.values():
        parents = (InputError, GateRefused, EnvironmentMissing)
        assert kind is PredictiveScoringError or kind.exit_code in {
            p.exit_code for p in parents if issubclass(kind, p)
        }


@pytest.mark.parametrize("kind", CLASSES.values(), ids=list(CLASSES))
def test_every_refusal_says_what_where_and_what_to_do_and_survives_a_process_border(
    kind: type[PredictiveScoringError],
) -> None:
    refusal = kind(what="it broke", where="file, line 3 – é", remedy="Mend it.")
    back = pickle.loads(pickle.dumps(refusal))  # noqa: S301 - our own bytes
    for one in (refusal, back):
        assert type(one) is kind
        assert one.to_document() == {
            "error": kind.__name__,
            "what": "it broke",
            "where": "file, line 3 – é",
            "remedy": "Mend it.",
        }
        assert all(part in str(one) for part in ("it broke", "file, line 3", "Mend it."))
    assert kind.__doc__


def test_a_refusal_cannot_be_made_without_all_three() -> None:
    with pytest.raises(TypeError):
        NaiveTimestamp(what="it broke", where="there")  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        NaiveTimestamp("it broke", "there", "Mend it.")  # type: ignore[misc]
