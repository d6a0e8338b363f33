"""Feature computation against named peers, one JSON line per case: `case ours peer ratio goal met`.

    features_75_seconds_vs_sql      75 features of 1 M leads from 20 M events at one cutoff: seconds, against the
                                    same features hand-written in DuckDB SQL (their values are compared too)
    features_75_peak_gb             the same: peak memory of the process in GB, against the SQL's
    features_75_seconds_vs_pandas   on a tenth of the log, against pandas group-bys
    twelve_cutoffs_vs_one           on a quarter of the log: seconds for 12 monthly cutoffs, against one
    one_lead_milliseconds           a lead with 200 events by `fold`, against the same features as a DuckDB query

A ratio below 1 means ours is better. Each measurement runs in a process of its own, on the same Parquet file read into
the same table before the clock starts; ours and peer take turns and the better of their rounds counts.
`--events N` chooses another size (leads are a twentieth), `--quick` a small one; `--write FILE` keeps the table in
Markdown.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import duckdb
import numpy as np
import pandas as pd

from predictive_scoring.data.engines import open_engine
from predictive_scoring.data.feature_frame import feature_frame
from predictive_scoring.features.definitions import EventFeature
from predictive_scoring.features.online import FeatureReader
from predictive_scoring.schema import Event, Lead
from predictive_scoring.timeline import DAY

END = 1_780_272_000
"""The newest cutoff; the log spans the 540 days before it."""
MONTHS = [END - 30 * DAY * back for back in reversed(range(12))]
TYPES = [
    "page_view",
    "pricing_view",
    "email_open",
    "email_click",
    "form_submit",
    "content_download",
    "webinar_attend",
    "trial_session",
    "social_like",
    "call",
    "demo_request",
]
ACTIVITY = tuple(kind for kind in TYPES if kind != "email_open")


def feature(aggregate: str, events: tuple[str, ...], days: int | None = None, **more: Any) -> EventFeature:
    window = None if days is None else days * DAY
    return EventFeature(
        aggregate, events, "label", "concept", window=window, alias="_".join(events)[:40], **more
    )


FEATURES: tuple[EventFeature, ...] = (
    *(feature("count", (kind,), days) for kind in TYPES for days in (7, 30, 90)),
    *(feature("days_since", (kind,)) for kind in TYPES),
    *(feature("ever", (kind,)) for kind in TYPES[:4]),
    *(
        feature("sum", (kind,), days, column="duration_seconds")
        for kind in ("page_view", "trial_session")
        for days in (7, 30, 90)
    ),
    *(
        feature(aggregate, (kind,), 90, column="duration_seconds")
        for kind in ("page_view", "trial_session")
        for aggregate in ("mean", "max")
    ),
    *(feature("distinct", (kind,), 90, column="topic") for kind in ("page_view", "content_download")),
    feature("trend", ACTIVITY, 14),
    feature("trend", ("page_view",), 30),
    *(
        feature("decayed", kinds, half_life=days * DAY)
        for days in (7, 30, 90)
        for kinds in (ACTIVITY, ("pricing_view",), ("page_view",))
    ),
    feature("count", ACTIVITY, 7),
    feature("count", ACTIVITY, 30),
    feature("rate", ("email_delivered",), 90, numerator=("email_click",), prior=0.05, strength=10.0),
    feature("latest", ("page_view",), column="topic"),
)


def write_log(path: Path, events: int) -> None:
    """A log of `events` events of a twentieth as many leads; the same for the same size."""
    kinds = ["page_view"] * 6 + ["email_delivered"] * 3 + ["email_open"] * 2 + TYPES[1:2] + TYPES[3:]
    duckdb.sql(
        f"""
        COPY (
          WITH drawn AS (
            SELECT i, (hash(i * 7 + 1) % {events // 20})::BIGINT AS lead, (hash(i * 7 + 2) % 10007) / 10007 AS u,
              (hash(i * 7 + 3) % 10009) / 10009 AS v, hash(i * 7 + 4) AS h, hash(i * 7 + 5) AS g
            FROM range({events}) t(i)
          ), dated AS (
            SELECT *, {END} - 540 * {DAY} + ((hash(lead * 13 + 5) % 1000) / 1000 * 500 * {DAY})::BIGINT AS created
            FROM drawn
          )
          SELECT 'L-' || lpad(lead::VARCHAR, 8, '0') AS lead_id, 'E-' || lpad(i::VARCHAR, 9, '0') AS event_id,
            list_extract({kinds}, floor(u * {len(kinds)})::INT + 1) AS event_type,
            (created + floor(({END} - created) * v))::BIGINT AS occurred,
            (created + floor(({END} - created) * v))::BIGINT + (h % 60)::BIGINT AS known,
            CASE WHEN g % 3 = 0 THEN (g % 1000)::DOUBLE END AS duration_seconds,
            list_extract(['roi', 'security', 'setup', 'pricing', 'support'], (h % 5)::INT + 1) AS topic
          FROM dated
        ) TO '{path}' (FORMAT parquet, ROW_GROUP_SIZE 200000)
        """
    )


def aggregate_sql(one: EventFeature) -> str:
    """The feature as somebody would write it by hand."""
    kinds = ", ".join(f"'{kind}'" for kind in sorted(one.event_types))
    types = f"event_type IN ({kinds})" if len(one.event_types) > 1 else f"event_type = {kinds}"
    seen = types if one.lookback is None else f"{types} AND {END} - occurred <= {one.lookback}"
    column = one.column
    match one.aggregate:
        case "count":
            return f"count(*) FILTER ({seen})"
        case "ever":
            return f"(count(*) FILTER ({seen}) > 0)::INT"
        case "days_since":
            return f"({END} - max(occurred) FILTER ({seen})) / 86400"
        case "sum" | "max":
            empty = "coalesce" if one.aggregate == "sum" else ""
            inner = f"{one.aggregate}({column}) FILTER ({seen})"
            return f"{empty}({inner}, 0)" if empty else inner
        case "mean":
            return f"avg({column}) FILTER ({seen})"
        case "distinct":
            return f"count(DISTINCT {column}) FILTER ({seen})"
        case "trend":
            recent = f"count(*) FILTER ({types} AND {END} - occurred <= {one.window})"
            return f"(2 * {recent} - count(*) FILTER ({seen})) / (count(*) FILTER ({seen}) + 1)"
        case "decayed":
            weight = f"pow(2, ({END} - occurred) / -{one.half_life}.0)"
            return f"coalesce(sum({weight}) FILTER ({seen}), 0)"
        case "rate":
            successes = f"count(*) FILTER ({seen} AND event_type = '{one.numerator[0]}')"
            trials = f"count(*) FILTER ({seen} AND event_type = '{one.events[0]}')"
            return f"({successes} + {one.prior} * {one.strength}) / ({trials} + {one.strength})"
        case "latest":
            return f"arg_max({column}, (occurred, event_id)) FILTER ({seen} AND {column} IS NOT NULL)"
    raise AssertionError(one.aggregate)


def by_sql(connection: Any) -> pd.DataFrame:
    columns = ", ".join(f'{aggregate_sql(one)} AS "{one.name}"' for one in FEATURES)
    frame: pd.DataFrame = connection.sql(
        f"SELECT lead_id, {columns} FROM log WHERE occurred < {END} AND known < {END} GROUP BY lead_id"
    ).df()
    return frame


def by_pandas(log: pd.DataFrame) -> pd.DataFrame:
    """The features as group-bys, one after the other; masks and ages are worked out once."""
    age = END - log["occurred"]
    log = log[(age > 0) & (log["known"] < END)].assign(age=age)
    of_type = {kind: log["event_type"] == kind for kind in log["event_type"].unique()}
    leads = pd.Index(log["lead_id"].unique())
    columns: dict[str, pd.Series] = {}
    for one in FEATURES:
        mask = np.logical_or.reduce([of_type[kind] for kind in one.event_types])
        if one.lookback is not None:
            mask &= log["age"] <= one.lookback
        seen = log[mask]
        lead = seen["lead_id"]
        match one.aggregate:
            case "count" | "ever":
                answer = seen.groupby("lead_id").size().reindex(leads, fill_value=0)
                columns[one.name] = answer.clip(upper=1) if one.aggregate == "ever" else answer
            case "days_since":
                columns[one.name] = seen.groupby("lead_id")["age"].min() / DAY
            case "sum" | "mean" | "max":
                grouped = seen.groupby("lead_id")[one.column]
                columns[one.name] = grouped.agg(one.aggregate)
            case "distinct":
                columns[one.name] = seen.groupby("lead_id")[one.column].nunique().reindex(leads, fill_value=0)
            case "trend":
                both = seen.groupby("lead_id").size().reindex(leads, fill_value=0)
                recent = (
                    seen[seen["age"] <= one.window].groupby("lead_id").size().reindex(leads, fill_value=0)
                )
                columns[one.name] = (2 * recent - both) / (both + 1)
            case "decayed":
                weight = np.exp2(seen["age"] / -float(one.half_life or DAY))
                columns[one.name] = weight.groupby(lead).sum().reindex(leads, fill_value=0.0)
            case "rate":
                hits = seen["event_type"] == one.numerator[0]
                successes = hits.groupby(lead).sum().reindex(leads, fill_value=0)
                trials = (~hits).groupby(lead).sum().reindex(leads, fill_value=0)
                columns[one.name] = (successes + (one.prior or 0) * one.strength) / (trials + one.strength)
            case "latest":
                ordered = seen[seen[one.column].notna()].sort_values(["occurred", "event_id"])
                columns[one.name] = ordered.groupby("lead_id")[one.column].last()
    return pd.DataFrame(columns, index=leads)


def observe(leads: pd.Series, cutoffs: list[int]) -> pd.DataFrame:
    """Every lead at every cutoff."""
    frame = pd.DataFrame(
        {"lead_id": np.tile(leads.to_numpy(), len(cutoffs)), "cutoff": np.repeat(cutoffs, len(leads))}
    )
    return frame.assign(observation_id=np.arange(len(frame)))


def measure(role: str, log: Path) -> dict[str, float]:
    """Seconds of one reading of the log at `log`, and the peak memory of this process in GB."""
    if role == "pandas":
        frame = pd.read_parquet(log)
        start = time.perf_counter()
        by_pandas(frame)
    else:
        with open_engine("duckdb") as engine:
            connection = engine.backend.con
            connection.execute(f"CREATE TABLE log AS FROM read_parquet('{log}')")
            leads = connection.sql("SELECT DISTINCT lead_id FROM log ORDER BY 1").df()["lead_id"]
            tables: Any = SimpleNamespace(engine=engine, events=engine.backend.table("log"))
            start = time.perf_counter()
            if role == "sql":
                by_sql(connection)
            elif role == "check":
                check(feature_frame(tables, observe(leads, [END]), FEATURES), by_sql(connection), leads)
            else:
                feature_frame(tables, observe(leads, MONTHS if role == "twelve" else [END]), FEATURES)
    seconds = time.perf_counter() - start
    return {"seconds": seconds, "gb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20}


def check(ours: pd.DataFrame, sql: pd.DataFrame, leads: pd.Series) -> None:
    """The two answer the same."""
    sql = sql.set_index("lead_id").loc[leads].reset_index(drop=True)
    for one in FEATURES:
        if one.kind == "number":
            np.testing.assert_allclose(
                ours[one.name], sql[one.name].astype("float64"), rtol=1e-9, atol=1e-9, err_msg=one.name
            )
        else:
            assert (ours[one.name].fillna("") == sql[one.name].fillna("")).all(), one.name


def in_turns(log: Path, rounds: int, *roles: str) -> list[dict[str, float]]:
    """The best of several rounds of each role, each in a new process."""
    best: list[dict[str, float]] = [{} for _ in roles]
    for _ in range(rounds):
        for number, role in enumerate(roles):
            command = [sys.executable, __file__, "--measure", role, "--log", str(log)]
            answer = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            measured = json.loads(answer)
            best[number] = {key: min(value, best[number].get(key, value)) for key, value in measured.items()}
    return best


def one_lead(rounds: int = 300) -> tuple[float, float]:
    """Median milliseconds for a lead with 200 events: by fold, and as a DuckDB query."""
    draw = np.random.default_rng(1)
    moments = (END - draw.integers(1, 300 * DAY, 200)).tolist()
    events = tuple(
        Event(
            str(number), TYPES[draw.integers(len(TYPES))], at, at, {"duration_seconds": 30.0, "topic": "roi"}
        )
        for number, at in enumerate(moments)
    )
    lead = Lead("L-1", END - 400 * DAY, {}, events)
    reader = FeatureReader(FEATURES)
    rows = [
        {
            "lead_id": "L-1",
            "event_id": one.event_id,
            "event_type": one.event_type,
            "occurred": one.occurred,
            "known": one.known,
            **one.properties,
        }
        for one in events
    ]
    connection = duckdb.connect()
    connection.register("frame", pd.DataFrame(rows))
    connection.execute("CREATE TABLE log AS FROM frame")
    return timed(lambda: reader(lead, END), rounds), timed(lambda: by_sql(connection), 10)


def timed(call: Callable[[], object], rounds: int) -> float:
    """Median milliseconds of a call."""
    taken = []
    for _ in range(rounds):
        start = time.perf_counter()
        call()
        taken.append((time.perf_counter() - start) * 1000)
    return statistics.median(taken)


def report(case: str, ours: float, peer: float, goal: float, *, absolute: bool = False) -> dict[str, Any]:
    """Print one case. The goal is for the ratio, or (`absolute`) for our own figure."""
    line = {
        "case": case,
        "ours": round(ours, 4),
        "peer": round(peer, 4),
        "ratio": round(ours / peer, 4),
        "goal": goal,
        "met": (ours if absolute else ours / peer) <= goal,
    }
    print(json.dumps(line), flush=True)
    return line


def table(lines: list[dict[str, Any]], events: int) -> str:
    """The cases as a Markdown table."""
    rows = [
        f"| `{line['case']}` | {line['ours']:g} | {line['peer']:g} | {line['ratio']:g} | {line['goal']:g} | "
        f"{'yes' if line['met'] else '**no**'} |"
        for line in lines
    ]
    head = f"{events:,} events, {events // 20:,} leads, {len(FEATURES)} features; every ratio from one run."
    return "\n".join(
        [head, "", "| case | ours | peer | ratio | goal | met |", "|---|---|---|---|---|---|", *rows]
    )


def main() -> None:
    """Run every case and print its line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--events", type=int, default=20_000_000)
    parser.add_argument("--quick", action="store_true", help="400,000 events, one round")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--write", type=Path, help="a Markdown file whose generated part is replaced")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    parser.add_argument("--log", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.measure:
        print(json.dumps(measure(asked.measure, asked.log)))
        return
    events, rounds = (400_000, 1) if asked.quick else (asked.events, asked.rounds)
    with tempfile.TemporaryDirectory() as folder:
        whole, quarter, tenth = (Path(folder) / f"{name}.parquet" for name in ("whole", "quarter", "tenth"))
        write_log(whole, events)
        write_log(quarter, events // 4)
        write_log(tenth, events // 10)
        in_turns(tenth, 1, "check")
        ours, sql = in_turns(whole, rounds, "ours", "sql")
        lines = [
            report("features_75_seconds_vs_sql", ours["seconds"], sql["seconds"], 1.1),
            report("features_75_peak_gb", ours["gb"], sql["gb"], 4.0, absolute=True),
        ]
        ours, pandas = in_turns(tenth, rounds, "ours", "pandas")
        lines.append(report("features_75_seconds_vs_pandas", ours["seconds"], pandas["seconds"], 0.1))
        twelve, one = in_turns(quarter, rounds, "twelve", "ours")
        lines.append(report("twelve_cutoffs_vs_one", twelve["seconds"], one["seconds"], 6.0))
    lines.append(report("one_lead_milliseconds", *one_lead(), 0.5, absolute=True))
    if asked.write:
        text = asked.write.read_text("utf-8")
        start, end = "<!-- features: written by make bench-features -->", "<!-- features: end -->"
        before, _, rest = text.partition(start)
        after = rest.partition(end)[2]
        asked.write.write_text(f"{before}{start}\n{table(lines, events)}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    main()
