"""Write the generated pages: `docs/cli.md` from the command line itself, the catalogue in `docs/features.md`.

python docs/generate.py            writes them
python docs/generate.py --check    exits 1 and names the pages that are out of date
"""

from __future__ import annotations

import inspect
import sys
import typing
from pathlib import Path
from typing import Any

from predictive_scoring import errors
from predictive_scoring.cli.app import app
from predictive_scoring.errors import PredictiveScoringError
from predictive_scoring.features.catalog import catalog
from predictive_scoring.features.definitions import EventFeature

HERE = Path(__file__).resolve().parent
BEGIN, END = "<!-- generated: catalogue -->", "<!-- end of generated -->"

WORDS = {"Path": "file", "str": "text", "int": "whole number", "float": "number"}
EXITS = (
    (0, "done"),
    (2, "bad input: a named error says what, where and what to do; also a mistake in the command itself"),
    (3, "the gate said no: a model was rejected, leaks are suspected, or what was served does not replay"),
    (4, "the environment is missing something: a package, a healthy bundle, a disk that can be written"),
)


def cli_page() -> str:
    """`docs/cli.md`, from the registered verbs, their options and examples."""
    groups = [group.typer_instance for group in app.registered_groups if group.typer_instance]
    commands = [
        (info, info.callback) for group in groups for info in group.registered_commands if info.callback
    ]
    parts = [
        "# The command line",
        "",
        "<!-- Written by docs/generate.py; do not edit. -->",
        "",
        "`predictive-scoring VERB [options]`. Every verb answers people, or with `--json` programs: then",
        "stdout holds one JSON document and nothing else. Progress and complaints go to stderr.",
        "`predictive-scoring VERB --help` prints what is below.",
        "",
        "| verb | what it does |",
        "|---|---|",
        *(
            f"| [`{callback.__name__}`](#{callback.__name__}) | {_doc(callback)} |"
            for _, callback in commands
        ),
        "",
        "## Exit codes",
        "",
        "| code | meaning | errors |",
        "|---|---|---|",
        *(f"| {code} | {meaning} | {_errors_with(code)} |" for code, meaning in EXITS),
        "",
        "An error is three lines on stderr: its name and what happened, where, and what to do. With `--json`",
        'the same stands on stdout as `{"error", "what", "where", "remedy"}`.',
    ]
    for info, callback in commands:
        parts += ["", f"## {callback.__name__}", "", _doc(callback), ""]
        parts += ["| option | value | default | |", "|---|---|---|---|", *_options(callback)]
        parts += ["", "```console", *(f"$ {line}" for line in _examples(info.epilog)), "```"]
    return "\n".join(parts) + "\n"


def _doc(callback: Any) -> str:
    return " ".join((inspect.getdoc(callback) or "").split())


def _examples(epilog: str | None) -> list[str]:
    lines = [line.strip() for line in (epilog or "").splitlines()]
    return [line for line in lines if line.startswith("predictive-scoring ")]


def _options(callback: Any) -> list[str]:
    hints = typing.get_type_hints(callback, include_extras=True)
    rows = []
    for name, parameter in inspect.signature(callback).parameters.items():
        kind, info = typing.get_args(hints[name])[:2]
        argument = type(info).__name__ == "ArgumentInfo"
        # Within Annotated the first name stands where a default value would.
        named = (info.default,) if isinstance(info.default, str) else ()
        names = (*named, *(info.param_decls or ())) or ("--" + name.replace("_", "-"),)
        spelled = f"`{name.upper()}`" if argument else ", ".join(f"`{spelling}`" for spelling in names)
        text = " ".join(filter(None, (info.help or "", _limits(info), _variable(info))))
        required = parameter.default is inspect.Parameter.empty
        default = "required" if required else _default(parameter.default)
        rows.append(f"| {spelled} | {_kind(kind)} | {default} | {text} |")
    return rows


def _kind(kind: Any) -> str:
    inner = [part for part in typing.get_args(kind) if part is not type(None)]
    origin = typing.get_origin(kind)
    if origin is list:
        return f"{_kind(inner[0])}, repeatable"
    if inner:
        return _kind(inner[0])
    return "" if kind is bool else WORDS[kind.__name__]


def _default(value: object) -> str:
    return "" if value is None or value is False else f"`{value}`"


def _limits(info: Any) -> str:
    found = [
        f"at least {info.min}" if info.min is not None else "",
        f"at most {info.max:,}" if info.max else "",
    ]
    spoken = ", ".join(filter(None, found))
    return f"({spoken})" if spoken else ""


def _variable(info: Any) -> str:
    return f"Environment variable: `{info.envvar}`." if info.envvar else ""


def _errors_with(code: int) -> str:
    named = [
        kind.__name__
        for kind in vars(errors).values()
        if inspect.isclass(kind)
        and issubclass(kind, PredictiveScoringError)
        and kind.exit_code == code
        and kind.__name__ not in ("PredictiveScoringError", "InputError")
    ]
    return ", ".join(f"`{name}`" for name in named)


def catalogue() -> str:
    """The tables of the shipped feature views, between the two marks of `docs/features.md`."""
    parts = []
    for name, view in catalog().items():
        parts += [
            "",
            f"### `{name}`",
            "",
            "| feature | label | concept | group | direction | reads |",
            "|---|---|---|---|---|---|",
        ]
        parts += [
            f"| `{feature.name}` | {feature.label} | {feature.concept} | {feature.group} |"
            f" {feature.direction or ''} | {_reads(feature)} |"
            for feature in view.features
            if isinstance(feature, EventFeature)
        ]
    return "\n".join([*parts, ""])


def _reads(feature: EventFeature) -> str:
    types = ", ".join(f"`{name}`" for name in (*feature.events, *feature.numerator))
    return f"{types}, property `{feature.column}`" if feature.column else types


def features_page(written: str) -> str:
    """`docs/features.md` with its catalogue made again; everything else is kept."""
    head, _, rest = written.partition(BEGIN)
    _, _, tail = rest.partition(END)
    return f"{head}{BEGIN}\n{catalogue()}\n{END}{tail}"


def pages() -> dict[Path, str]:
    """What every generated page should hold."""
    features = HERE / "features.md"
    return {HERE / "cli.md": cli_page(), features: features_page(features.read_text("utf-8"))}


def main(arguments: list[str]) -> int:
    """Write or check the pages; the exit code."""
    stale = [page for page, text in pages().items() if not page.exists() or page.read_text("utf-8") != text]
    if "--check" in arguments:
        for page in stale:
            sys.stderr.write(f"{page.name} is out of date: run python docs/generate.py\n")
        return 1 if stale else 0
    for page in stale:
        page.write_text(pages()[page], encoding="utf-8")
        sys.stdout.write(f"wrote {page.name}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
