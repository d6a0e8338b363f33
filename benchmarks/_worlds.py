"""What the serving benchmark works on: the sample project with its champion, a loaded store, and requests made of the
sample's tables. Made once per run, in a folder that goes with it."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from predictive_scoring.data.sources import load_project, open_tables
from predictive_scoring.keeping.bundle import read_bundle, write_bundle
from predictive_scoring.keeping.champion import BundleStore, succeeded_by
from predictive_scoring.keeping.store.opening import open_store
from predictive_scoring.model.booster import booster_matrix
from predictive_scoring.model.columns import encode
from predictive_scoring.schema import Lead
from predictive_scoring.scoring import Scorer, champion_scorer
from predictive_scoring.timeline import format_instant

ROOT = Path(__file__).resolve().parents[1]
PROJECT = ROOT / "data" / "projects" / "sample" / "scoring.yaml"
EVENTS, LEADS = 100, 50
"""Events of each lead that is sent; different leads that take turns, so that no answer can be remembered."""


@dataclass(frozen=True)
class World:
    """Files in `folder`: `store.db` (the sample loaded), `models` (a copy), and one JSON body a line in `one_lead`
    (ours), `vectors` (bare peer), `rows` (MLflow); `booster` is LightGBM's text."""

    folder: Path
    scorer: Scorer
    leads: tuple[Lead, ...]
    as_of: int

    @property
    def models(self) -> Path:
        return self.folder / "models"

    @property
    def champion(self) -> Path:
        """The champion's bundle."""
        bundles = BundleStore(self.models / "sample")
        return bundles.path(bundles.champion().bundle)

    def store_copy(self, name: str) -> str:
        """Address of a store of its own with the sample in it."""
        place = self.folder / f"{name}.db"
        shutil.copyfile(self.folder / "store.db", place)
        return f"sqlite:///{place}"


def load(models: Path, database: str) -> None:
    """The sample's tables into a store, as the launcher does it."""
    command = [sys.executable, "-m", "predictive_scoring.cli.loading", "--project", str(PROJECT)]
    subprocess.run(
        [*command, "--models", str(models), "--database", database], check=True, stdout=subprocess.DEVNULL
    )


def make(folder: Path) -> World:
    """Make it. Raises UnknownModel where `make demo` was never run."""
    BundleStore(ROOT / "models" / "sample").champion()
    shutil.copytree(ROOT / "models" / "sample", folder / "models" / "sample")
    scorer = champion_scorer(BundleStore(folder / "models" / "sample"))
    database = f"sqlite:///{folder / 'store.db'}"
    load(folder / "models", database)
    # So that the file alone is the store.
    store = open_store(database)
    with store.engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
    store.close()

    tables = open_tables(load_project(PROJECT))
    as_of = tables.observed_until
    found = tables.stored_leads(tables.leads["lead_id"])
    long = [newest(lead) for lead in found.values() if len(lead.events) >= EVENTS]
    chosen = [
        lead
        for lead, score in zip(long, scorer.score_many(long, as_of), strict=True)
        if score.status == "scored" and score.actions
    ][:LEADS]
    world = World(folder, scorer, tuple(chosen), as_of)
    lines(
        folder / "one_lead", ({"leads": [document(lead)], "as_of": format_instant(as_of)} for lead in chosen)
    )
    (folder / "booster").write_text(scorer.scoring.model.propensity.booster_text, "utf-8")
    columns = scorer.scoring.model.columns
    frame = feature_rows(scorer, chosen, as_of)
    matrix = booster_matrix(encode(frame, columns), columns)
    lines(folder / "vectors", ({"values": [_number(value) for value in row]} for row in matrix))
    names = [column.name for column in columns]
    rows = [[_number(row[name]) for name in names] for row in frame.to_dict("records")]
    lines(folder / "rows", ({"dataframe_split": {"columns": names, "data": [row]}} for row in rows))
    return world


def promote_another(world: World) -> str:
    """Replace the champion's pointer by one to a bundle that differs in its card alone; its folder's name."""
    bundles = BundleStore(world.models / "sample")
    champion = bundles.champion()
    files = dict(read_bundle(bundles.path(champion.bundle)).files)
    files["model_card.md"] += "\n"
    made = write_bundle(bundles.bundles, files, {})
    name = made.identity.removeprefix("sha256:")[:16]
    bundles.write_pointer(succeeded_by(bundles.succession(), replace(champion, bundle=name)))
    return name


def save_mlflow_model(world: World, into: Path) -> Path:
    """The champion as MLflow keeps it: our loader, its signature, and the bundle."""
    import mlflow.pyfunc
    from mlflow.models.signature import ModelSignature
    from mlflow.types import ColSpec, Schema

    columns = world.scorer.scoring.model.columns
    kinds = ["double" if one.kind == "number" else "string" for one in columns]
    inputs = [ColSpec(kind, one.name, required=False) for kind, one in zip(kinds, columns, strict=True)]
    with warnings.catch_warnings():
        # It would rather have an example as well.
        warnings.simplefilter("ignore", UserWarning)
        mlflow.pyfunc.save_model(
            into,
            loader_module="predictive_scoring.keeping.pyfunc",
            data_path=str(world.champion),
            signature=ModelSignature(inputs=Schema(inputs)),
            pip_requirements=["predictive-scoring"],
        )
    return into


def feature_rows(scorer: Scorer, leads: Sequence[Lead], as_of: int) -> Any:
    """A frame of the model's features, lead by lead."""
    vectors: list[Any] = []
    scorer.score_many(leads, as_of, lambda _, values: vectors.extend(values))
    import pandas as pd

    return pd.DataFrame(vectors, columns=[column.name for column in scorer.scoring.model.columns])


def _number(value: Any) -> Any:
    """As JSON has it: a missing value is null."""
    return None if value is None or value != value else value


def _plain(text: str) -> Any:
    """A value of the history, which holds text, as a body has it."""
    try:
        return float(text)
    except ValueError:
        return text or None


def newest(lead: Lead) -> Lead:
    """The lead with its newest events only."""
    kept = sorted(lead.events, key=lambda event: (event.occurred, event.event_id))[-EVENTS:]
    return Lead(lead.lead_id, lead.created, lead.attributes, tuple(kept), lead.touches, lead.changes)


def document(lead: Lead, lead_id: str | None = None) -> dict[str, Any]:
    """A lead with everything that the tables know of it, as a body has it."""
    return {
        "lead_id": lead_id or lead.lead_id,
        "created_at": format_instant(lead.created),
        "attributes": {name: _number(value) for name, value in lead.attributes.items()},
        "attribute_changes": [
            {
                "attribute": one.attribute,
                "value": _plain(one.value),
                "occurred_at": format_instant(one.occurred),
                "known_at": format_instant(one.known),
            }
            for one in lead.changes
        ],
        "events": [
            {
                "event_id": one.event_id,
                "event_type": one.event_type,
                "occurred_at": format_instant(one.occurred),
                "known_at": format_instant(one.known),
                "properties": {
                    name: value for name, value in one.properties.items() if _number(value) is not None
                },
            }
            for one in lead.events
        ],
        "touches": [
            {
                "touch_id": one.touch_id,
                "action_id": one.action_id,
                "channel": one.channel,
                "occurred_at": format_instant(one.occurred),
            }
            for one in lead.touches
        ],
    }


def lines(path: Path, documents: Iterator[dict[str, Any]]) -> Path:
    """One JSON document a line."""
    path.write_text("".join(json.dumps(one, separators=(",", ":")) + "\n" for one in documents), "utf-8")
    return path
