"""Prose is executed: every page says what is true of the code beside it."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from pydantic import BaseModel, ValidationError
from typer.main import get_command
from typer.testing import CliRunner

from predictive_scoring import schema, settings
from predictive_scoring.cli.app import app
from predictive_scoring.document import parse_yaml
from predictive_scoring.features.aggregates import AGGREGATES
from predictive_scoring.features.catalog import catalog, views_of
from predictive_scoring.insight.stage import StageParameters
from predictive_scoring.nurture import conditions, playbook
from predictive_scoring.nurture.gate import REASONS
from predictive_scoring.nurture.playbook import parse_playbook
from predictive_scoring.settings import parse_project

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    path
    for pattern in ("*.md", "docs/**/*.md", "data/*.md", "models/*.md", "notebooks/*.md", "benchmarks/*.md")
    for path in ROOT.glob(pattern)
)
MAKE_TARGETS = frozenset(re.findall(r"^\.PHONY: (\S+)", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    line: int
    language: str
    text: str

    def __str__(self) -> str:
        return f"{self.page}:{self.line}"


def blocks_of(page: Path) -> Iterator[Block]:
    """The fenced blocks of a page."""
    text = page.read_text("utf-8")
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        line = text[: found.start()].count("\n") + 1
        yield Block(page.relative_to(ROOT).as_posix(), line, found[1], found[2])


BLOCKS = [block for page in PAGES for block in blocks_of(page)]


def written_in(*languages: str, pages: str = "") -> list[Block]:
    """The blocks in these languages on pages whose path begins so."""
    return [block for block in BLOCKS if block.language in languages and block.page.startswith(pages)]


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def says(page: str, name: str) -> bool:
    """Whether the page has the name in code type, alone or with others."""
    return re.search(rf"`(?:[^`\n]*[^\w`])?{re.escape(name)}(?:[^\w`][^`\n]*)?`", page) is not None


# --- Commands -----------------------------------------------------------------------------------------------

COMMANDS: dict[str, Any] = get_command(app).commands


def commands() -> list[tuple[str, str]]:
    """(place, command line) of every `predictive-scoring …` in a fenced or indented block, or in code type."""
    found = []
    for page in PAGES:
        name = page.relative_to(ROOT).as_posix()
        for number, line in enumerate(page.read_text("utf-8").splitlines(), start=1):
            shown = re.match(r"^\$ (?:\.venv/bin/)?(predictive-scoring(?: .*)?)$", line.strip())
            spoken = re.findall(r"`(?:\.venv/bin/)?(predictive-scoring [^`]+)`", line)
            found += [(f"{name}:{number}", text) for text in ([shown[1]] if shown else spoken)]
    return found


@pytest.mark.parametrize(("place", "line"), commands(), ids=lambda value: value.replace(" ", "_")[:60])
def test_commands_in_prose_exist_with_their_options(place, line):
    words = shlex.split(line.partition(" #")[0])[1:]
    verb = words[0]
    if verb in ("VERB", "--help"):
        return
    assert verb in COMMANDS, f"{place}: there is no verb {verb!r}"
    known = {"--help": True}
    for parameter in COMMANDS[verb].params:
        for spelling in (*parameter.opts, *parameter.secondary_opts):
            known[spelling] = bool(getattr(parameter, "is_flag", False))
    rest = iter(words[1:])
    for word in rest:
        if word.startswith("-"):
            option, _, value = word.partition("=")
            assert option in known, f"{place}: {verb} has no option {option}"
            if not known[option] and not value:
                assert next(rest, None) is not None, f"{place}: {option} needs a value"


def test_commands_are_found():
    assert {"init", "validate", "train", "compare", "promote", "rollback", "score", "explain"} <= {
        line.split()[1] for _, line in commands()
    }


@pytest.mark.parametrize("verb", COMMANDS)
def test_every_verb_has_help_with_an_example_that_exists(verb):
    answer = CliRunner().invoke(app, [verb, "--help"])
    assert answer.exit_code == 0
    assert "Examples" in answer.output
    assert re.search(rf"^## {verb}$", read("docs/cli.md"), re.MULTILINE)


def test_console_blocks_hold_only_commands_we_know():
    for block in written_in("console"):
        for line in block.text.splitlines():
            assert line.startswith("$ "), f"{block}: output belongs into a text block: {line}"
            words = line[2:].split()
            assert words[0] in (
                "predictive-scoring",
                ".venv/bin/predictive-scoring",
                "make",
                "export",
                "curl",
            ), line
            if words[0] == "make":
                assert words[1] in MAKE_TARGETS, f"{block}: there is no target {words[1]}"


def test_make_targets_in_prose_exist():
    for page in PAGES:
        for target in re.findall(
            r"`make ([a-z]+)[^`]*`|^    make ([a-z]+)", page.read_text("utf-8"), re.MULTILINE
        ):
            assert "".join(target) in MAKE_TARGETS, f"{page.name}: make {''.join(target)}"


# --- Links and generated pages ------------------------------------------------------------------------------


def prose_of(page: Path) -> str:
    """The page without its fenced and indented blocks."""
    text = re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"^    .*$", "", text, flags=re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """Anchors of the headings of a page, as repository browsers make them."""
    headings = re.findall(r"^#+ (.*)$", prose_of(page), re.MULTILINE)
    return {
        re.sub(r"[^\w\- ]", "", heading.replace("`", "")).strip().lower().replace(" ", "-")
        for heading in headings
    }


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_resolve(page):
    text = prose_of(page)
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`(?!\])", "", text)):
        if re.match(r"[a-z]+:", target):
            assert target.startswith("https://"), f"{page.name}: {target}"
            continue
        name, _, anchor = target.partition("#")
        file = (page.parent / name).resolve() if name else page
        assert file.exists(), f"{page.name}: {target} does not exist"
        assert ROOT in (file, *file.parents), f"{page.name}: {target} leaves the repository"
        if anchor:
            assert anchor in anchors(file), f"{page.name}: {target} names no heading"


def test_every_page_is_reached_from_the_index():
    index = read("docs/README.md")
    for page in sorted((ROOT / "docs").glob("*.md")):
        assert page.name == "README.md" or f"({page.name})" in index, (
            f"docs/README.md does not name {page.name}"
        )


def test_generated_pages_are_up_to_date():
    spec = importlib.util.spec_from_file_location("generate_docs", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    generate = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(generate)
    for page, text in generate.pages().items():
        assert page.read_text("utf-8") == text, f"{page.name} is out of date: run python docs/generate.py"


# --- The project file ---------------------------------------------------------------------------------------


def models_of(module: Any, base: type) -> list[type[BaseModel]]:
    """The pydantic models that a module or package defines."""
    return [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, base)
        and value.__module__.startswith(module.__name__)
    ]


@pytest.mark.parametrize(
    "model", [*models_of(settings, settings.Settings), StageParameters], ids=lambda m: m.__name__
)
def test_every_key_of_the_project_file_is_described(model):
    page = read("docs/project-file.md")
    for name in model.model_fields:
        assert says(page, name), f"{model.__name__}.{name} is not described"


def whole_projects(page: str) -> list[Block]:
    return [
        block for block in written_in("yaml", pages=page) if re.search(r"^name: ", block.text, re.MULTILINE)
    ]


def parts(page: str) -> list[Block]:
    return [block for block in written_in("yaml", pages=page) if block not in whole_projects(page)]


@pytest.mark.parametrize("block", whole_projects("docs/project-file.md"), ids=str)
def test_whole_project_files_parse(block):
    project = parse_project(block.text, str(block))
    assert views_of(project)


@pytest.mark.parametrize("block", [*parts("docs/project-file.md"), *parts("docs/features.md")], ids=str)
def test_blocks_of_the_project_file_fit_into_the_smallest_one(block):
    smallest = parse_yaml(whole_projects("docs/project-file.md")[0].text, "smallest").value
    part = parse_yaml(block.text, str(block)).value
    # Event types are needed by the conversion: a block adds to them.
    merged = smallest | part | {"events": smallest["events"] | part.get("events", {})}
    project = parse_project(yaml.safe_dump(merged, sort_keys=False), str(block))
    StageParameters.model_validate(project.journey)
    if "events" in part:
        assert views_of(project)


def test_shipped_journey_is_the_one_in_the_page():
    block = next(block for block in parts("docs/project-file.md") if block.text.startswith("journey:"))
    assert StageParameters.model_validate(yaml.safe_load(block.text)["journey"]) == StageParameters()


def test_defaults_in_the_page_are_those_of_the_code():
    page = read("docs/project-file.md")
    assert re.search(rf"\| `test` .*\| {settings.SplitSettings().test} \|", page)
    assert re.search(rf"\| `calibrate` .*\| {settings.SplitSettings().calibrate} \|", page)
    assert re.search(rf"\| `seed` .*\| {settings.Project.model_fields['seed'].default} \|", page)
    assert re.search(r"\| `data_root` .*\| `\.` \|", page)


# --- The playbook -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model",
    [*models_of(playbook, playbook._Part), conditions.Condition],
    ids=lambda model: model.__name__,
)
def test_every_key_of_the_playbook_is_described(model):
    page = read("docs/playbook.md")
    for name, field in model.model_fields.items():
        assert says(page, field.alias or name), f"{model.__name__}.{field.alias or name} is not described"


@pytest.mark.parametrize("code", REASONS)
def test_every_reason_code_is_described(code):
    assert f"`{code}`" in read("docs/playbook.md")


def test_playbook_blocks_parse():
    whole = whole_projects("docs/playbook.md")
    assert whole
    first = parse_yaml(whole[0].text, "first").value
    for block in whole:
        parse_playbook(block.text, str(block))
    for block in parts("docs/playbook.md"):
        action = first["actions"][0] | parse_yaml(block.text, str(block)).value
        parse_playbook(yaml.safe_dump(first | {"actions": [action]}), str(block))


def test_the_worked_example_of_the_ranking():
    page = re.sub(r"\s+", " ", read("docs/playbook.md"))
    context = schema.NurtureContext("L-1", 0, "decision", _logit(0.02), {"pricing_view_count_30d": 2})
    from predictive_scoring.nurture.recommendation import net_value

    book = parse_playbook(whole_projects("docs/playbook.md")[0].text, "page")
    gain = net_value(context, book.actions[0], book)
    assert f"= {gain:.1f}." in page


def _logit(probability: float) -> float:
    import math

    return math.log(probability / (1 - probability))


# --- Features -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", AGGREGATES)
def test_every_aggregate_is_described(name):
    assert re.search(rf"^\| `{name}` \|", read("docs/features.md"), re.MULTILINE)


def test_missing_values_of_aggregates_are_as_described():
    from predictive_scoring.features.aggregates import Reading, Seen

    table = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", read("docs/features.md"), re.MULTILINE))
    reading = Reading(window=86_400, half_life=86_400, prior=0.25, strength=4.0)
    for name, aggregate in AGGREGATES.items():
        nothing = aggregate.fold(Seen(()), reading)
        spoken = "missing" if nothing is None else "`prior`" if nothing == 0.25 else f"{nothing:g}"
        assert table[name].strip() == spoken, name


def test_every_shipped_feature_is_in_the_page():
    page = read("docs/features.md")
    for view in catalog().values():
        for feature in view.features:
            assert f"`{feature.name}`" in page


# --- The HTTP interface -------------------------------------------------------------------------------------


def published(model: type[BaseModel]) -> set[str]:
    """Names of the fields of a document and of the documents in it."""
    found = set(model.model_fields)
    for field in model.model_fields.values():
        for kind in (field.annotation, *_inner(field.annotation)):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= published(kind)
    return found


def _inner(kind: Any) -> Iterator[Any]:
    for part in typing.get_args(kind):
        yield part
        yield from _inner(part)


def test_every_field_of_the_score_document_is_described():
    page = read("docs/http-api.md")
    for name in published(schema.Score):
        assert says(page, name), f"{name} is not described"


def test_every_problem_and_limit_is_described():
    from serving import bodies, limits, problems

    page = read("docs/http-api.md")
    for name, (status, _) in problems.PROBLEMS.items():
        assert re.search(rf"^\| {status} \|.*`{name}`", page, re.MULTILINE), f"{status} {name}"
    for number in (bodies.MOST_LEADS, bodies.MOST_EVENTS, bodies.MOST_TOUCHES, limits.LimitSettings().body):
        assert f"{number:,}" in page


def test_every_address_is_described():
    from serving.app import create_app
    from serving.state import ServingState

    pages = read("docs/http-api.md") + read("docs/api.md")
    for path in create_app(ServingState(None, Path("models"))).openapi()["paths"]:
        lead = "/v1/leads/{lead_id}"
        # `POST /v1/leads/{lead_id}/touches` `/feedback`: the second one without what they share.
        assert path in pages or f"`{path.removeprefix(lead)}`" in pages, path


def requests() -> list[Block]:
    return [block for block in written_in("json", pages="docs/http-api.md") if '"scores"' not in block.text]


def test_the_answer_in_the_page_is_a_score_document():
    answer = next(block for block in written_in("json", pages="docs/http-api.md") if '"scores"' in block.text)
    for score in json.loads(answer.text)["scores"]:
        document = schema.Score.model_validate_json(json.dumps(score))
        assert document.explanation is not None
        assert document.probability is not None
        assert document.explanation.output == pytest.approx(_logit(document.probability), abs=2e-3)


def test_requests_in_the_page_are_answered_in_process(small_champion, stored_champion, tmp_path):
    import asyncio

    from serving.app import create_app
    from serving.state import Serving, ServingState

    from predictive_scoring.keeping.store.opening import open_store
    from stored_project import copied_store

    state = ServingState(small_champion.file, small_champion.models)
    state.store = open_store(copied_store(stored_champion, tmp_path))
    state.serving = Serving(small_champion.scorer, state.store)

    async def answers() -> list[httpx.Response]:
        transport = httpx.ASGITransport(create_app(state))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:3000") as client:
            return [
                await client.post(
                    "/v1/score", content=block.text, headers={"content-type": "application/json"}
                )
                for block in requests()
            ]

    found = asyncio.run(answers())
    state.store.close()
    for block, answer in zip(requests(), found, strict=True):
        assert answer.status_code == 200, f"{block}: {answer.text}"
        document = answer.json()
        assert not document["errors"], block
        assert not document["warnings"], block
        assert [
            schema.Score.model_validate_json(json.dumps(score)).lead_id for score in document["scores"]
        ] == [lead["lead_id"] for lead in json.loads(block.text)["leads"]]


# --- Everything else that can be run ------------------------------------------------------------------------


@pytest.mark.parametrize("block", written_in("json", "yaml"), ids=str)
def test_data_blocks_are_well_formed(block):
    try:
        json.loads(block.text) if block.language == "json" else parse_yaml(block.text, str(block))
    except (ValueError, ValidationError) as refused:
        raise AssertionError(f"{block}: {refused}") from refused


def test_python_of_the_features_page_runs():
    for block in written_in("python", pages="docs/features.md"):
        exec(compile(block.text, str(block), "exec"), {})  # noqa: S102 our own page


def test_python_of_the_python_page_runs():
    blocks = written_in("python", pages="docs/python.md")
    assert len(blocks) >= 4
    exec("\n".join(block.text for block in blocks), {})  # noqa: S102 our own page


def test_python_of_the_data_scientists_page_runs(small_champion):
    blocks = written_in("python", pages="docs/data-scientist.md")
    assert len(blocks) >= 2
    # In a process of its own, as a reader has it: MLflow keeps one store per address and process, and
    # another test's `sqlite:///mlflow.db` lies in another folder.
    answer = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", "\n".join(block.text for block in blocks)],
        cwd=small_champion.folder,
        env={**os.environ, "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false"},
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout


def test_code_is_python_yaml_json_console_or_text():
    for block in BLOCKS:
        assert block.language in ("python", "yaml", "json", "console", "text"), f"{block}: {block.language!r}"


def test_prose_names_no_machine_and_is_not_a_draft():
    for page in PAGES:
        text = page.read_text("utf-8")
        found = re.search(r"(?<![\w.:/])/(?:work|home|root|tmp|Users|var)/|\b(?:TODO|TBD|FIXME)\b|@@", text)
        assert found is None, f"{page.name}: {found.group()}"
