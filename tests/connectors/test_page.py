"""The page of the connectors: its Python compiles and runs, its names are those of the code."""

import re
from pathlib import Path

import pytest

from predictive_scoring.connectors import tokens
from predictive_scoring.connectors.fields import HUBSPOT_NAMES, SALESFORCE_NAMES
from predictive_scoring.connectors.salesforce_push import WANTED
from predictive_scoring.connectors.webhooks_out import DELAYS
from predictive_scoring.schema import Score

PAGE = (Path(__file__).parents[2] / "docs" / "connectors.md").read_text("utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_python_compiles_and_ours_runs(block):
    code = compile(block, "docs/connectors.md", "exec")
    # dlt is not ours to install.
    if "import dlt" not in block:
        exec(code, {})  # noqa: S102 our own page


def test_every_field_is_named_with_its_type():
    for name in HUBSPOT_NAMES.values():
        assert f"`{name}`" in PAGE
    for field, name in SALESFORCE_NAMES.items():
        assert f"| `{name}` | {WANTED[field].removeprefix('a ')} |" in PAGE


def test_every_variable_is_described_and_exists():
    told = set(re.findall(r"`(PREDICTIVE_SCORING_\w+)`", PAGE))
    source = Path(tokens.__file__).read_text("utf-8")
    read = {
        f"PREDICTIVE_SCORING_{system}_{name}"
        for system in ("HUBSPOT", "SALESFORCE")
        for name in re.findall(
            r'read\("(\w+)"\)', source.split(f"def {system.lower()}_token")[1].split("\ndef ")[0]
        )
    }
    assert told == read


def test_the_schedule_is_the_one_in_the_code():
    assert (5, 5 * 60, 30 * 60, *(hours * 3600 for hours in (2, 5, 10, 14, 20, 24))) == DELAYS
    assert "5 seconds, 5 minutes, 30 minutes, 2, 5, 10, 14, 20\nand 24 hours" in PAGE


def test_what_the_csv_holds_is_in_a_score():
    assert {"lead_id", "score", "grade", "reasons", "actions"} <= set(Score.model_fields)
