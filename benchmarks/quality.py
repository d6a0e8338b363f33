"""Quality of scores against named peers, one JSON line per case: `case ours peer ratio goal met`.

    bank_order_*            bank marketing in date order, newest fifth as test, without the leak `duration`: AUC,
                            log-loss and calibration error, as trained and (`recalibrated_*`) with the level following
                            the outcomes of calls at least a day (a week, a month) old; peers follow them alike
    bank_tabarena_auc       the columns of the TabArena benchmark, 3 folds x 3 repeats at random, stratified
    shoppers_auc            online shoppers, 3 folds x 3 repeats, with PageValues as published
    journey_auc             Complete Journey through the project file, campaigns from August on; the same matrix for all
    train_overhead          processor time of `train` once the dataset is read, over its bare fits

`peer` is the best of the peers, all run in the same job and shown in `peers`: LightGBM and scikit-learn's histogram
boosting as they come, logistic regression (scaled numbers, one-hot levels), and the frequency score of CRM products:
naive Bayes over levels and tenths, counts plus 0.1. Goals are for our own figure. Higher AUC is better, the rest lower.

Overhead: a run of `fit_candidate` is timed after its dataset was built, with the parts of `train` that follow (report,
bundle, MLflow), while every call of `fit_linear` and `fit_booster` is recorded; the same calls are then replayed alone.
Selection, calibration, ranges, judging, explaining and writing are the difference.

`--quick` uses fewer rows and one repeat; `--write FILE` keeps the table in Markdown; `--only NAME` runs some cases.
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pandas as pd
from lightgbm import LGBMClassifier
from scipy.special import expit, logit
from sklearn.compose import ColumnTransformer
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from predictive_scoring.data.dataset import build_dataset
from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.features.catalog import views_of
from predictive_scoring.model.estimator import LeadScorer
from predictive_scoring.model.evaluation import Metrics, evaluate
from predictive_scoring.model.recalibration import followed, known_after
from predictive_scoring.training import Candidate, fit_candidate

ROOT = Path(__file__).resolve().parents[1]
DATA = Path(os.environ.get("PREDICTIVE_SCORING_DATA") or ROOT.parent / "shared" / "data")
SEED = 7
LOWER = {"log_loss", "ece", "overhead"}
Peer = Callable[[pd.DataFrame, np.ndarray, pd.DataFrame], np.ndarray]

# --- Peers ----------------------------------------------------------------------------------------------------


def _split(frame: pd.DataFrame) -> tuple[list[str], list[str]]:
    numbers = [name for name in frame if pd.api.types.is_numeric_dtype(frame[name])]
    return numbers, [name for name in frame if name not in numbers]


def _levels(frame: pd.DataFrame, other: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Text columns as pandas categories with the levels of `frame`."""
    left, right = frame.copy(), other.copy()
    for name in _split(frame)[1]:
        levels = sorted(frame[name].dropna().astype(str).unique())
        for one in (left, right):
            # A level that the rows to learn from lack is missing.
            one[name] = pd.Categorical(one[name].where(one[name].isin(levels)), categories=levels)
    return left, right


def lightgbm_default(X: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    X, test = _levels(X, test)
    X.columns = test.columns = [f"c{j}" for j in range(X.shape[1])]
    model = LGBMClassifier(n_jobs=1, random_state=SEED, verbosity=-1).fit(X, y)
    return np.asarray(model.predict_proba(test))[:, 1]


def histogram_boosting(X: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    X, test = _levels(X, test)
    model = HistGradientBoostingClassifier(random_state=SEED, categorical_features="from_dtype").fit(X, y)
    return np.asarray(model.predict_proba(test))[:, 1]


def logistic_regression(X: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    numbers, texts = _split(X)
    columns = ColumnTransformer(
        [
            ("n", make_pipeline(SimpleImputer(add_indicator=True), StandardScaler()), numbers),
            ("c", OneHotEncoder(handle_unknown="ignore", min_frequency=20), texts),
        ]
    )
    model = make_pipeline(columns, LogisticRegression(max_iter=2000)).fit(X, y)
    return np.asarray(model.predict_proba(test))[:, 1]


def frequency_score(X: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    """Naive Bayes: the rate of each level (numbers: tenths of their range) among either outcome, counts plus 0.1."""
    won, lost = float(y.sum()), float(len(y) - y.sum())
    z = np.full(len(test), math.log(won / lost))
    for name in X:
        if name in _split(X)[0]:
            edges = (
                np.unique(np.nanquantile(X[name], np.linspace(0.1, 0.9, 9))) if X[name].notna().any() else []
            )
            known, asked = (np.where(f[name].isna(), -1, np.searchsorted(edges, f[name])) for f in (X, test))
        else:
            known, asked = (f[name].astype(object).where(f[name].notna(), "").to_numpy() for f in (X, test))
        counts = pd.DataFrame({"level": known, "y": y}).groupby("level")["y"].agg(["sum", "count"])
        of_won = (counts["sum"] + 0.1) / (won + 0.1)
        of_lost = (counts["count"] - counts["sum"] + 0.1) / (lost + 0.1)
        z += pd.Series(asked).map(np.log(of_won / of_lost)).fillna(0.0).to_numpy()
    return expit(np.clip(z, -30, 30))


PEERS: dict[str, Peer] = {
    "lightgbm": lightgbm_default,
    "hist_gradient_boosting": histogram_boosting,
    "logistic_regression": logistic_regression,
    "frequency_score": frequency_score,
}

# --- Lines ----------------------------------------------------------------------------------------------------


def report(
    case: str, ours: float, peers: dict[str, float], goal: float | None, *, lower: bool = False
) -> dict[str, Any]:
    """Print one case. Without a goal it is shown for comparison only."""
    peer = (min if lower else max)(peers.values())
    line = {
        "case": case,
        "ours": round(ours, 4),
        "peer": round(peer, 4),
        "ratio": round(ours / peer, 4),
        "goal": goal,
        "met": None if goal is None else (ours <= goal if lower else ours >= goal),
        "peers": {name: round(value, 4) for name, value in peers.items()},
    }
    print(json.dumps(line), flush=True)
    return line


# --- Cases ----------------------------------------------------------------------------------------------------


def trained(name: str) -> Candidate:
    """What `train` fits and judges for a project of the data folder, before it is kept."""
    os.environ.setdefault("PREDICTIVE_SCORING_DATA", str(DATA.resolve()))
    loaded = load_project(ROOT / "data" / "projects" / name / "scoring.yaml")
    return fit_candidate(loaded, open_tables(loaded))


def bank_days() -> np.ndarray:
    """Days since January 2008 of each row of the bank data: the months are given, rows within one are spread evenly."""
    raw = pd.read_csv(
        DATA / "bank_marketing_uci/bank-additional/bank-additional-full.csv", sep=";", usecols=["month"]
    )
    order = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]
    month = raw["month"].map({name: number for number, name in enumerate(order)}).to_numpy()
    # The months fall back when a year begins.
    month = month + 12 * np.concatenate([[0], np.cumsum(np.diff(month) < 0)])
    day = np.empty(len(month))
    for each in np.unique(month):
        rows = np.flatnonzero(month == each)
        day[rows] = 365.25 / 12 * (each + (np.arange(len(rows)) + 0.5) / len(rows))
    return day


def bank_order(quick: bool) -> Iterator[dict[str, Any]]:
    ours = trained("bank_marketing")
    frame, y, _ = ours.dataset.rows("train", "calibrate")
    test, test_y, _ = ours.dataset.rows("test")
    day = bank_days()[-len(test_y) :]
    z = {"ours": ours.scoring.model.logit(test)}
    z |= {name: _log_odds(peer(frame, y, test)) for name, peer in PEERS.items()}

    def lines(prefix: str, said: dict[str, np.ndarray], goals: dict[str, float]) -> Iterator[dict[str, Any]]:
        metrics: dict[str, Metrics] = {name: evaluate(test_y, expit(one)) for name, one in said.items()}
        for measure in ("auc", "log_loss", "ece"):
            figures = {name: float(getattr(one, measure)) for name, one in metrics.items()}
            ours = figures.pop("ours")
            yield report(
                f"bank_order_{prefix}{measure}", ours, figures, goals.get(measure), lower=measure in LOWER
            )

    yield from lines("", z, {})
    for days, name in ((1, "day"), (7, "week"), (30, "month")):
        if quick and days != 1:
            continue
        wait = np.maximum(known_after(day, day + days), 1)
        goals = {"auc": 0.76, "log_loss": 0.56, "ece": 0.03}
        yield from lines(
            f"recalibrated_{name}_", {who: followed(one, test_y, wait) for who, one in z.items()}, goals
        )


def _log_odds(p: np.ndarray) -> np.ndarray:
    return np.asarray(logit(np.clip(p, 1e-6, 1 - 1e-6)))


def random_folds(case: str, frame: pd.DataFrame, y: np.ndarray, goal: float, quick: bool) -> dict[str, Any]:
    """Mean AUC over 3 stratified folds, three times."""
    if quick:
        some = np.random.default_rng(SEED).choice(len(y), 6000, replace=False)
        frame, y = frame.iloc[some].reset_index(drop=True), y[some]
    everyone: dict[str, Peer] = {"ours": our_estimator, **PEERS}
    scores: dict[str, list[float]] = {name: [] for name in everyone}
    for repeat in range(1 if quick else 3):
        for known, held in StratifiedKFold(3, shuffle=True, random_state=repeat).split(frame, y):
            for name, peer in everyone.items():
                p = peer(frame.iloc[known].reset_index(drop=True), y[known], frame.iloc[held])
                scores[name].append(float(roc_auc_score(y[held], p)))
    means = {name: float(np.mean(each)) for name, each in scores.items()}
    return report(case, means.pop("ours"), means, goal)


def our_estimator(X: pd.DataFrame, y: np.ndarray, test: pd.DataFrame) -> np.ndarray:
    model = LeadScorer(ordered=False, random_state=SEED).fit(X, y)
    return np.asarray(model.predict_proba(test))[:, 1]


def bank_tabarena(quick: bool) -> Iterator[dict[str, Any]]:
    frame = pd.read_csv(DATA / "bank_marketing_uci/bank-additional/bank-full.csv", sep=";")
    y = (frame.pop("y") == "yes").to_numpy(dtype=np.int64)
    yield random_folds(
        "bank_tabarena_auc", frame.drop(columns=["duration", "day", "month"]), y, 0.7772, quick
    )


def shoppers(quick: bool) -> Iterator[dict[str, Any]]:
    frame = pd.read_csv(DATA / "online_shoppers_uci/online_shoppers_intention.csv")
    y = frame.pop("Revenue").astype(str).str.upper().eq("TRUE").to_numpy(dtype=np.int64)
    # Codes, not amounts.
    codes = ["OperatingSystems", "Browser", "Region", "TrafficType", "Weekend"]
    yield random_folds("shoppers_auc", frame.astype(dict.fromkeys(codes, str)), y, 0.934, quick)


def journey(_: bool) -> Iterator[dict[str, Any]]:
    ours = trained("complete_journey")
    frame, y, _ = ours.dataset.rows("train", "calibrate")
    test, test_y, _ = ours.dataset.rows("test")
    auc = float(roc_auc_score(test_y, ours.scoring.model.logit(test)))
    peers = {name: float(roc_auc_score(test_y, peer(frame, y, test))) for name, peer in PEERS.items()}
    yield report("journey_auc", auc, peers, 0.77)


# --- Overhead -------------------------------------------------------------------------------------------------


@contextmanager
def recorded(calls: list[Callable[[], object]]) -> Iterator[None]:
    """Every fit of a ridge or a booster under this is noted so that it can be done again."""
    from predictive_scoring.model import booster, linear

    with_names = [
        (module, name, function)
        for name, function in (("fit_linear", linear.fit_linear), ("fit_booster", booster.fit_booster))
        for module in list(sys.modules.values())
        if getattr(module, "__name__", "").startswith("predictive_scoring.")
        and getattr(module, name, None) is function
    ]

    def noting(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            calls.append(partial(function, *arguments, **named))
            return function(*arguments, **named)

        return call

    patches = [patch.object(module, name, noting(function)) for module, name, function in with_names]
    for one in patches:
        one.start()
    try:
        yield
    finally:
        for one in patches:
            one.stop()


def overhead(quick: bool) -> Iterator[dict[str, Any]]:
    from predictive_scoring import training
    from predictive_scoring.cli.preparing import simulate
    from predictive_scoring.keeping.champion import BundleStore
    from predictive_scoring.training import candidate

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        for file in (ROOT / "data/projects/sample").glob("*.yaml"):
            (folder / file.name).write_text(file.read_text("utf-8"), "utf-8")
        with redirect_stdout(io.StringIO()):
            simulate(folder / "scoring.yaml", 1500 if quick else 5000, SEED, (), True)
        loaded = load_project(folder / "scoring.yaml")
        tables = open_tables(loaded)
        dataset = build_dataset(tables, views_of(loaded.project))
        calls: list[Callable[[], object]] = []
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        store = BundleStore(folder / "models")
        # Reading has happened; MLflow's own start is a fixed cost of its first use in a process, not of training.
        training_registry(uri)
        with recorded(calls), patch.object(candidate, "build_dataset", lambda *_, **__: dataset):
            start = spent()
            training.train(loaded, tables, store, uri)
            whole = spent() - start
        start = spent()
        for call in calls:
            call()
        bare = spent() - start
    line = {
        "case": "train_overhead",
        "ours": round(whole, 2),
        "peer": round(bare, 2),
        "ratio": round(whole / bare, 4),
        "goal": 1.2,
        "met": whole / bare <= 1.2,
        "fits": len(calls),
    }
    print(json.dumps(line), flush=True)
    yield line


def spent() -> float:
    """Processor seconds of this process and of its ended children (the trial load of a bundle is one)."""
    return sum(os.times()[:4])


def training_registry(uri: str) -> None:
    """A registry at `uri` with its tables made."""
    from predictive_scoring.keeping.registry import Registry

    with Registry(uri).run("warm-up"):
        pass


CASES: dict[str, Callable[[bool], Iterator[dict[str, Any]]]] = {
    "bank_order": bank_order,
    "bank_tabarena": bank_tabarena,
    "shoppers": shoppers,
    "journey": journey,
    "overhead": overhead,
}


def table(lines: list[dict[str, Any]]) -> str:
    """The cases as a Markdown table."""
    rows = []
    for line in lines:
        peers = line.get("peers")
        best = "the bare fits"
        if peers:
            chosen = min if any(word in line["case"] for word in LOWER) else max
            best = chosen(peers, key=peers.get).replace("_", " ")
        goal = "" if line["goal"] is None else f"{line['goal']:g}"
        met = "" if line["met"] is None else "yes" if line["met"] else "**no**"
        rows.append(
            f"| `{line['case']}` | {line['ours']:g} | {line['peer']:g} ({best}) | {line['ratio']:g} | {goal} | {met} |"
        )
    return "\n".join(["| case | ours | best peer | ratio | goal | met |", "|---|---|---|---|---|---|", *rows])


def main() -> None:
    """Run the cases and print their lines."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true", help="fewer rows, one repeat")
    parser.add_argument("--only", choices=CASES, action="append", help="only this case (repeatable)")
    parser.add_argument("--write", type=Path, help="a Markdown file whose generated part is replaced")
    asked = parser.parse_args()
    lines = [line for name in asked.only or CASES for line in CASES[name](asked.quick)]
    if asked.write:
        text = asked.write.read_text("utf-8")
        start, end = "<!-- quality: written by make bench-quality -->", "<!-- quality: end -->"
        before, _, rest = text.partition(start)
        after = rest.partition(end)[2]
        asked.write.write_text(f"{before}{start}\n{table(lines)}\n{end}{after}", "utf-8")


if __name__ == "__main__":
    main()
