"""The service against named peers, one JSON line per case: `case ours peer ratio goal met`.

    one_lead_*            a lead with its 100 newest events in the body, scored with explanation, reasons and actions:
                          milliseconds at one connection, requests per second at eight. The peer is a bare FastAPI
                          application on uvicorn that does nothing but LightGBM's `predict` and `predict(pred_contrib)`
                          with the champion's booster on a ready vector (`def` and `async def`; the faster one counts)
    stored_lead_*         the same leads, stored whole and scored by the background worker, asked for by id; against the
                          same peer, which has its vector ready as well
    mlflow_*              as `one_lead_*`, against `mlflow models serve` of the champion's bundle, on a ready row of
                          features; it answers with the probability and the score alone
    many_leads_*          as many such leads as a body of 5 MB holds, in one request: leads per second
    many_stored_leads_*   1,000 stored leads by id in one request
    ingest_*_per_second   POST /v1/events, 1,000 Segment events a batch, about the sample's leads, one connection; the
                          peer is our own store without the service (`benchmarks/store.py`), in batches as large
    ready_seconds         from starting `predictive-scoring serve` on a loaded store until /readyz answers 200: median
                          of three starts, and the best of them
    memory_mb             resident memory of the one worker after 2,000 requests, and its proportional share (pss); the
                          peer is the bare application after as many
    help_seconds          `predictive-scoring --help`, median of five
    swap_seconds          from replacing the champion's pointer to the first answer of the new model, under load

Ours is the sample project with its champion (`make demo`), started as users do: one worker, nothing in the background
and no limit of requests per second. Load comes from a process of its own on the loopback address (`_load.py`): 50
different leads in turn over kept-alive connections, each asking again when it was answered. Ours and peers
take turns, round by round; medians count. `goal` is for the ratio of `one_lead_*` and `mlflow_*`, else for our own
figure; `wanted` says whether it is the most or the least. `--quick` takes two short rounds; `--write FILE` keeps
the table in Markdown; `--only NAME` runs some cases.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import statistics
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from _running import COMMAND, Running, Target, in_turns, load, memory, mlflow_server, peer, service, timed
from _worlds import PROJECT, World, document, lines, make, promote_another, save_mlflow_model
from _worlds import load as load_tables

from predictive_scoring.keeping.store.ingestion import ingest
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.timeline import format_instant
from store import addresses, messages

BODY_BYTES = 5_000_000
"""What the service takes unless it is told otherwise."""
Case = dict[str, Any]


def report(
    case: str,
    ours: float,
    peer: float | None = None,
    goal: float | None = None,
    *,
    least: bool = False,
    of_ratio: bool = False,
    **more: Any,
) -> Case:
    """Print one case. Our figure is to be at most the goal; with `least` at least; with `of_ratio` the ratio is."""
    ratio = None if peer is None else ours / peer
    figure = ratio if of_ratio else ours
    met = None if goal is None or figure is None else figure >= goal if least else figure <= goal
    line = {
        "case": case,
        "ours": round(ours, 3),
        "peer": None if peer is None else round(peer, 3),
        "ratio": None if ratio is None else round(ratio, 3),
        "goal": goal,
        "met": met,
        "wanted": None if goal is None else ("least" if least else "most") + (" ratio" if of_ratio else ""),
        **more,
    }
    print(json.dumps(line), flush=True)
    return line


def one_lead(world: World, quick: bool) -> Iterator[Case]:
    """Ours against the bare application, with the lead in the body and in the store; and the memory of both."""
    rounds, seconds = (2, 2) if quick else (5, 5)
    folder, database = world.folder, world.store_copy("one")
    work_off(world, database)
    ids = folder / "ids"
    ids.write_text("".join(f"{lead.lead_id}\n" for lead in world.leads), "utf-8")
    with ExitStack() as stack:
        ours = stack.enter_context(service(PROJECT, world.models, database, folder / "one.log"))
        bare = {
            kind: stack.enter_context(peer(kind, folder / "booster", folder / f"{kind}.log"))
            for kind in ("loop", "thread")
        }
        us = Target(ours.port, "/v1/score", folder / "one_lead")
        stored = Target(ours.port, "/v1/leads/", ids, get=True)
        them = {kind: Target(one.port, "/predict", folder / "vectors") for kind, one in bare.items()}
        check(json.loads(load(us, requests=1)["answer"])["scores"][0])
        check(json.loads(load(stored, requests=1)["answer"]))
        alone = in_turns(rounds, us, stored, *them.values(), connections=1, warmup=1, seconds=seconds)
        kind, best = min(zip(them, alone[2:], strict=True), key=lambda one: one[1]["p50"])
        for name, mine in zip(("one_lead", "stored_lead"), alone[:2], strict=True):
            yield report(f"{name}_p50_ms", mine["p50"], best["p50"], 1.0, of_ratio=True, peer_endpoint=kind)
            yield report(f"{name}_p99_ms", mine["p99"], best["p99"], peer_endpoint=kind)
        crowd = in_turns(rounds, us, stored, *them.values(), connections=8, warmup=1, seconds=seconds)
        kind, best = max(zip(them, crowd[2:], strict=True), key=lambda one: one[1]["per_second"])
        for name, mine in zip(("one_lead", "stored_lead"), crowd[:2], strict=True):
            yield report(
                f"{name}_per_second",
                mine["per_second"],
                best["per_second"],
                1.5,
                least=True,
                of_ratio=True,
                peer_endpoint=kind,
            )
        yield from used(ours, bare["loop"], us, them["loop"])


def work_off(world: World, database: str) -> None:
    """Let the background worker score what waits."""
    command = [str(COMMAND), "work", "--once", "--project", str(PROJECT), "--models", str(world.models)]
    subprocess.run([*command, "--database-url", database], check=True, capture_output=True)


def used(ours: Running, bare: Running, us: Target, them: Target) -> Iterator[Case]:
    """Memory after 2,000 requests (more were made already)."""
    for target in (us, them):
        load(target, connections=8, requests=2000)
    (resident, share), (theirs, _) = memory(ours.worker), memory(bare.process.pid)
    yield report("memory_mb", resident, theirs, 350.0, pss=round(share, 1))


def check(score: dict[str, Any]) -> None:
    """The answer is a score with everything that is asked for."""
    assert score["status"] == "scored", score
    assert score["explanation"]["rows"], "no explanation"
    assert score["actions"], "no action"


def mlflow(world: World, quick: bool) -> Iterator[Case]:
    """Ours against MLflow's scoring server."""
    rounds, seconds = (2, 2) if quick else (3, 5)
    folder = world.folder
    model = save_mlflow_model(world, folder / "mlflow")
    with ExitStack() as stack:
        ours = stack.enter_context(
            service(PROJECT, world.models, world.store_copy("two"), folder / "two.log")
        )
        theirs = stack.enter_context(mlflow_server(model, folder / "mlflow.log"))
        us = Target(ours.port, "/v1/score", folder / "one_lead")
        them = Target(theirs.port, "/invocations", folder / "rows")
        mine, other = in_turns(rounds, us, them, connections=1, warmup=1, seconds=seconds)
        yield report("mlflow_p50_ms", mine["p50"], other["p50"])
        mine, other = in_turns(rounds, us, them, connections=8, warmup=1, seconds=seconds)
        yield report(
            "mlflow_per_second", mine["per_second"], other["per_second"], 5.0, least=True, of_ratio=True
        )


def many_leads(world: World, quick: bool) -> Iterator[Case]:
    """1,000 stored leads by id in one request; and as many with 100 events in the body as fit."""
    rounds = 3 if quick else 7
    bodies, size = [], 0
    for number in range(1000):
        lead = world.leads[number % len(world.leads)]
        bodies.append(document(lead, f"{lead.lead_id}-{number}"))
        size += len(json.dumps(bodies[-1], separators=(",", ":"))) + 1
        if size > BODY_BYTES - 100:
            bodies.pop()
            break
    path = lines(world.folder / "many", iter([{"leads": bodies, "as_of": format_instant(world.as_of)}]))
    ids = [{"lead_id": f"L-{number:05d}"} for number in range(1, 1001)]
    stored = lines(world.folder / "stored", iter([{"leads": ids}]))
    with service(PROJECT, world.models, world.store_copy("three"), world.folder / "three.log") as ours:
        target = Target(ours.port, "/v1/score", path)
        load(target, requests=1)
        found = load(target, requests=rounds)
        assert len(json.loads(found["answer"])["scores"]) == len(bodies)
        yield report(
            "many_leads_per_second",
            1000 * len(bodies) / found["p50"],
            leads=len(bodies),
            bytes=path.stat().st_size,
        )
        yield report("many_leads_seconds", found["p50"] / 1000, leads=len(bodies))
        found = load(Target(ours.port, "/v1/score", stored), requests=rounds)
        assert len(json.loads(found["answer"])["scores"]) == len(ids)
        yield report("many_stored_leads_per_second", 1000 * len(ids) / found["p50"], leads=len(ids))


def segment_batches(world: World, batches: int) -> Iterator[dict[str, Any]]:
    """Batches of 1,000 events about stored leads, in the month after the sample's end."""
    chance = random.Random(7)
    ids = [f"L-{number:05d}" for number in range(1, 5001)]
    names = ("page_view", "pricing_view", "email_open", "email_click", "content_download")
    for _ in range(batches):
        yield {
            "batch": [
                {
                    "type": "track",
                    "messageId": f"{chance.getrandbits(128):032x}",
                    "userId": chance.choice(ids),
                    "event": chance.choice(names),
                    "timestamp": format_instant(world.as_of + chance.randrange(30 * 86400)),
                    "properties": {"duration_seconds": chance.randrange(300), "topic": "pricing"},
                }
                for _ in range(1000)
            ]
        }


def ingestion(world: World, quick: bool) -> Iterator[Case]:
    """Events per second through the service, and into the store alone."""
    batches = 12 if quick else 40
    with addresses() as urls:
        urls["sqlite"] = world.store_copy("four")
        for name, url in urls.items():
            if name == "postgres":
                load_tables(world.models, url)
            path = lines(world.folder / f"events_{name}", segment_batches(world, batches + 2))
            with service(PROJECT, world.models, url, world.folder / f"events_{name}.log") as ours:
                target = Target(ours.port, "/v1/events", path)
                found = load(target, connections=1, once=True, requests=batches)
                answer = json.loads(found["answer"])
                assert answer["accepted"] == 1000, answer
            yield report(
                f"ingest_{name}_per_second",
                1000 * found["per_second"],
                1000 * batches / into_store(url, batches),
                5000,
                least=True,
                p50_ms=round(found["p50"], 1),
            )


def into_store(url: str, batches: int) -> float:
    """Seconds that as many messages take without the service."""
    halves = messages(1000 * batches)
    whole = [[*first, *second] for first, second in zip(halves[::2], halves[1::2], strict=True)]
    store = open_store(url)
    began = time.perf_counter()
    for batch in whole:
        store.write(partial(ingest, messages=batch))
    seconds = time.perf_counter() - began
    store.close()
    return seconds


def ready(world: World, quick: bool) -> Iterator[Case]:
    """From starting the command until it can score."""
    taken = []
    for _ in range(2 if quick else 3):
        url = world.store_copy("five")
        with service(PROJECT, world.models, url, world.folder / "five.log") as ours:
            taken.append(ours.seconds)
    yield report("ready_seconds", statistics.median(taken), None, 5.0, best=round(min(taken), 2))


def help_(_: World, quick: bool) -> Iterator[Case]:
    """What everybody waits for."""
    taken = [
        timed(lambda: subprocess.run([str(COMMAND), "--help"], check=True, stdout=subprocess.DEVNULL))
        for _ in range(3 if quick else 5)
    ]
    yield report("help_seconds", statistics.median(taken), None, 0.4, best=round(min(taken), 2))


def swap(world: World, quick: bool) -> Iterator[Case]:
    """Another champion is promoted while eight connections ask."""
    taken = []
    with service(PROJECT, world.models, world.store_copy("six"), world.folder / "six.log") as ours:
        target = Target(ours.port, "/v1/score", world.folder / "one_lead")
        body = (world.folder / "one_lead").read_bytes().splitlines()[0]
        for _ in range(2 if quick else 5):
            crowd = threading.Thread(target=lambda: load(target, connections=2, seconds=4))
            crowd.start()
            time.sleep(1)
            bundle = promote_another(world)
            began = time.perf_counter()
            while serving_bundle(ours.port, body) != bundle:
                assert time.perf_counter() - began < 30, "the new champion is not served"
            taken.append(time.perf_counter() - began)
            crowd.join()
    yield report("swap_seconds", statistics.median(taken), None, 1.0, worst=round(max(taken), 2))


def serving_bundle(port: int, body: bytes) -> str:
    """The bundle that an answer names, as its folder is called."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/v1/score", body, {"content-type": "application/json"})
    (score,) = json.loads(connection.getresponse().read())["scores"]
    connection.close()
    return str(score["model"]["bundle"]).removeprefix("sha256:")[:16]


CASES: dict[str, Callable[[World, bool], Iterator[Case]]] = {
    "one_lead": one_lead,
    "mlflow": mlflow,
    "many_leads": many_leads,
    "ingestion": ingestion,
    "ready": ready,
    "help": help_,
    "swap": swap,
}


def table(found: list[Case]) -> str:
    """The cases as a Markdown table."""

    def shown(value: float | None) -> str:
        return "" if value is None else f"{value:g}"

    def wanted(one: Case) -> str:
        if one["goal"] is None:
            return ""
        sign = "≥" if one["wanted"].startswith("least") else "≤"
        return f"{'ratio ' if one['wanted'].endswith('ratio') else ''}{sign} {one['goal']:g}"

    met = {None: "", True: "yes", False: "**no**"}
    rows = [
        f"| `{one['case']}` | {shown(one['ours'])} | {shown(one['peer'])} | {shown(one['ratio'])} | {wanted(one)} | "
        f"{met[one['met']]} |"
        for one in found
    ]
    return "\n".join(["| case | ours | peer | ratio | goal | met |", "|---|---|---|---|---|---|", *rows])


def main() -> None:
    """Run the cases and print their lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="short rounds, and fewer of them")
    parser.add_argument("--only", choices=CASES, action="append", help="only this case (repeatable)")
    parser.add_argument("--write", type=Path, help="a Markdown file whose generated part is replaced")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-serve-") as folder:
        world = make(Path(folder))
        found = [one for name in asked.only or CASES for one in CASES[name](world, asked.quick)]
    if asked.write:
        text = asked.write.read_text("utf-8")
        start, end = "<!-- serving: written by make bench-serve -->", "<!-- serving: end -->"
        before, _, rest = text.partition(start)
        after = rest.partition(end)[2]
        asked.write.write_text(f"{before}{start}\n{table(found)}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    main()
