"""One lead in process, from the bytes of a request to the bytes of the answer: `case ours peer ratio goal met`.

    whole_ms                    the body of one lead with 100 events -> Lead -> Score with all it tells -> JSON
    read_body_ms … dump_ms      the parts of it, in the order of a request, so that each finds the caches as the one
                                before left them
    thousand_leads_per_second   the same for 1,000 leads of 100 events in one call; the peer answers 1,000 ready rows
    memory_mb, load_seconds     a fresh process that loads the champion and scores a lead; the peer loads LightGBM and
                         its model and answers a row

The peer is what a bare service would do with a ready vector: LightGBM's `predict` and `predict(pred_contrib=True)` on
the same model, called in turn with ours, one thread. Its trees stand for the whole model. Milliseconds are medians; a
ratio is ours over the peer's. Needs a champion: `make demo`.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from predictive_scoring.features.online import FeatureReader, WeekCounter
from predictive_scoring.insight.explanation import Explainer
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.model.calibrated import CalibratedModel
from predictive_scoring.model.columns import encode_values
from predictive_scoring.scoring import Scorer, champion_scorer
from predictive_scoring.scoring.judging import Judge
from predictive_scoring.timeline import DAY, format_instant

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from serving.reading import LeadReader, read_frame  # noqa: E402 beside src, not installed

AS_OF = 1_782_777_600
EVENTS = 100
PARTS: tuple[tuple[str, type, str], ...] = (
    ("features_ms", FeatureReader, "twice"),
    ("weeks_ms", WeekCounter, "__call__"),
    ("model_ms", CalibratedModel, "answers"),
    ("stage_ms", Judge, "_stage"),
    ("explanation_ms", Explainer, "explanation"),
    ("reasons_ms", Explainer, "concepts"),
    ("advice_ms", Judge, "_advice"),
)
FRESH = {
    "ours": """
from predictive_scoring.keeping.champion import BundleStore
from predictive_scoring.schema import Event, Lead
from predictive_scoring.scoring import champion_scorer
scorer = champion_scorer(BundleStore(Path(sys.argv[1])))
events = tuple(Event(f"e{n}", "page_view", 1_770_000_000 + n, 1_770_000_000 + n) for n in range(100))
scorer.score(Lead("L", 1_770_000_000, {}, events), 1_771_000_000).model_dump_json()
""",
    "peer": """
import lightgbm
import numpy as np
from predictive_scoring.keeping.champion import BundleStore
store = BundleStore(Path(sys.argv[1]))
text = (store.path(store.champion().bundle) / "model.txt").read_text()
booster = lightgbm.Booster(model_str=text)
row = np.zeros((1, booster.num_feature()))
booster.predict(row, num_threads=1), booster.predict(row, pred_contrib=True, num_threads=1)
""",
}


def body_of(scorer: Scorer, number: int) -> dict[str, Any]:
    """A lead as a CRM sends it: every declared attribute, and 100 events of all declared types in 200 days."""
    chance = random.Random(number)
    project = scorer.scoring.project
    created = AS_OF - 210 * DAY
    attributes: dict[str, Any] = {}
    for name, setting in project.attributes.items():
        levels = (
            [*(scorer.scoring.reference.features[name].levels or {})] if setting.transform is None else []
        )
        if setting.transform is None:
            attributes[name] = (
                chance.randrange(5000) if setting.type == "number" else chance.choice(levels or ["x"])
            )
    types = [
        name for name in project.events if name != project.conversion.event and "unsubscribe" not in name
    ]
    events = []
    for at in range(EVENTS):
        occurred = created + chance.randrange(200 * DAY)
        events.append(
            {
                "event_id": f"E-{number}-{at}",
                "event_type": chance.choice(types),
                "occurred_at": format_instant(occurred),
                "known_at": format_instant(occurred + chance.randrange(600)),
                "properties": {
                    name: chance.randrange(300) if kind == "number" else "pricing"
                    for name, kind in project.event_properties.items()
                },
            }
        )
    return {
        "lead_id": f"L-{number}",
        "created_at": format_instant(created),
        "attributes": {**attributes, **dict.fromkeys(project.contact.consent.values(), True)},
        "events": events,
    }


def bytes_of(leads: list[dict[str, Any]]) -> bytes:
    return json.dumps({"leads": leads, "as_of": format_instant(AS_OF)}).encode()


def answer(scorer: Scorer, reader: LeadReader, body: bytes, spent: dict[str, list[float]]) -> None:
    """One request, its parts timed."""
    began = time.perf_counter()
    found = reader.read(read_frame(body).leads, AS_OF)
    read = time.perf_counter()
    scores = scorer.score_many(list(found.leads.values()), AS_OF)
    scored = time.perf_counter()
    dumped = [score.model_dump_json().encode() for score in scores]
    ended = time.perf_counter()
    assert not found.errors
    assert all(b'"status":"scored"' in one for one in dumped)
    for name, seconds in (
        ("whole_ms", ended - began),
        ("read_body_ms", read - began),
        ("score_ms", scored - read),
        ("dump_ms", ended - scored),
    ):
        spent.setdefault(name, []).append(seconds)


@contextmanager
def timed_parts(spent: dict[str, list[float]]) -> Any:
    """The parts of a score write their seconds into `spent`."""
    originals = [(owner, name, getattr(owner, name)) for _, owner, name in PARTS]

    def timed(label: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            began = time.perf_counter()
            result = work(*arguments)
            spent.setdefault(label, []).append(time.perf_counter() - began)
            return result

        return call

    for (label, owner, name), (_, _, work) in zip(PARTS, originals, strict=True):
        setattr(owner, name, timed(label, work))
    try:
        yield
    finally:
        for owner, name, work in originals:
            setattr(owner, name, work)


def say(case: str, ours: float, peer: float | None, goal: float | None, *, more: bool = False) -> None:
    """One line; `more` where more is better."""
    met = None if goal is None else (ours >= goal if more else ours <= goal)
    ratio = None if peer is None else round(ours / peer, 3)
    told = None if peer is None else round(peer, 4)
    print(
        json.dumps(
            {"case": case, "ours": round(ours, 4), "peer": told, "ratio": ratio, "goal": goal, "met": met}
        )
    )


def fresh(program: str, store: Path) -> tuple[float, float]:
    """(seconds, resident megabytes) of a new process that runs the program."""
    tail = 'print(int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 2**20)'
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", f"import sys\nfrom pathlib import Path\n{program}\n{tail}", str(store)],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return time.perf_counter() - began, float(done.stdout.split()[-1])


def main() -> int:
    """Measure the champion of a project."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--champion", type=Path, default=ROOT / "models" / "sample")
    parser.add_argument("--requests", type=int, default=500)
    chosen = parser.parse_args()
    scorer = champion_scorer(BundleStore(chosen.champion))
    reader = LeadReader(scorer.scoring.project)
    bodies = [bytes_of([body_of(scorer, number)]) for number in range(20)]
    columns = scorer.scoring.model.columns
    values = [
        FeatureReader(scorer.features)(lead, AS_OF)
        for body in bodies
        for lead in reader.read(read_frame(body).leads, AS_OF).leads.values()
    ]
    rows = encode_values(values, columns)
    booster = scorer.scoring.model.propensity._booster
    spent: dict[str, list[float]] = {}

    def peer(rows: Any) -> float:
        began = time.perf_counter()
        booster.predict(rows, num_threads=1)
        booster.predict(rows, pred_contrib=True, num_threads=1)
        return time.perf_counter() - began

    for number in range(-20, chosen.requests):
        place = number % len(bodies)
        answer(scorer, reader, bodies[place], spent)
        spent.setdefault("peer", []).append(peer(rows[place : place + 1]))
    parts: dict[str, list[float]] = {}
    with timed_parts(parts):
        for number in range(chosen.requests):
            answer(scorer, reader, bodies[number % len(bodies)], {})
    two_calls = 1000 * statistics.median(spent.pop("peer")[20:])
    for name, seconds in (spent | parts).items():
        say(name, 1000 * statistics.median(seconds[20:]), two_calls, 1.5 if name == "whole_ms" else None)

    many = bytes_of([body_of(scorer, number) for number in range(1000)])
    whole: dict[str, list[float]] = {}
    answer(scorer, reader, many, whole)
    table = rows[[number % len(rows) for number in range(1000)]]
    say("thousand_leads_per_second", 1000 / whole["whole_ms"][0], 1000 / peer(table), 1000, more=True)

    measured = {
        name: min(fresh(program, chosen.champion) for _ in range(3)) for name, program in FRESH.items()
    }
    for place, (case, goal) in enumerate((("load_seconds", 5.0), ("memory_mb", 350.0))):
        say(case, measured["ours"][place], measured["peer"][place], goal)
    return 0


if __name__ == "__main__":
    sys.exit(main())
