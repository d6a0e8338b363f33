"""Golden rows: synthetic leads with the scores they must get, kept inside the bundle.

Run as a program (`python -m predictive_scoring.keeping.golden BUNDLE`) it loads the bundle and compares;
`bundle.try_bundle` does so in a child process before anything serves the bundle.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from predictive_scoring.errors import CorruptBundle, PredictiveScoringError
from predictive_scoring.keeping.bundle import ScoringModel, read_bundle
from predictive_scoring.model.columns import encode_values
from predictive_scoring.model.reference import synthetic_frame

ROWS = 24
TOLERANCE = 1e-9
FILE = "golden.jsonl"


def golden_lines(scoring: ScoringModel, seed: int) -> str:
    """JSON lines: the features of a synthetic lead, and its log-odds and score."""
    from predictive_scoring.data.histories import records

    frame = synthetic_frame(scoring.reference, ROWS, seed)
    logits = scoring.model.logit(frame)
    rows = records(frame)
    return "".join(
        json.dumps(
            {"features": row, "logit": float(logit), "score": int(scoring.grading.score(logit))},
            sort_keys=True,
        )
        + "\n"
        for row, logit in zip(rows, logits, strict=True)
    )


def check_golden(scoring: ScoringModel, lines: str, where: str) -> int:
    """The number of golden rows that were scored as expected. Raises CorruptBundle on the first that
    was not (log-odds further than 1e-9 apart, or another score), and where the trees cannot be read."""
    rows = [json.loads(line) for line in lines.splitlines()]
    # Without a frame: a service checks the bundle that it is about to serve, and needs pandas for nothing else.
    encoded = encode_values([row["features"] for row in rows], scoring.model.columns)
    try:
        logits = scoring.model.encoded_logit(encoded).tolist()
    except ValueError as refused:
        raise CorruptBundle(
            what=f"the trees cannot be read: {refused}",
            where=where,
            remedy="Restore the bundle from the MLflow run, or roll back to another version.",
        ) from refused
    for number, (row, logit) in enumerate(zip(rows, logits, strict=True), start=1):
        if not abs(logit - row["logit"]) <= TOLERANCE or row["score"] != scoring.grading.score(logit):
            raise CorruptBundle(
                what=f"golden row {number} scored {logit!r}, expected {row['logit']!r}",
                where=where,
                remedy="It does not score here as it did when it was made; compare the versions in MANIFEST.json.",
            )
    return len(rows)


def main(argument: str) -> int:
    """Check the bundle in the folder `argument`; the exit code of the trial load."""
    from predictive_scoring.model.booster import load_booster

    try:
        bundle = read_bundle(Path(argument))
        if bundle.files["model.txt"]:
            # Many rows at once are read by LightGBM itself, which takes its process down over a damaged text.
            load_booster(bundle.files["model.txt"])
        number = check_golden(bundle.scoring_model(), bundle.files[FILE], argument)
    except PredictiveScoringError as refused:
        sys.stderr.write(f"{refused.name}: {refused}\n")
        return refused.exit_code
    sys.stdout.write(f"{number} golden rows scored as expected\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
