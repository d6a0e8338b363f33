"""The files in serving/deploy, held against what they speak of: verbs, options, variables, ports, limits, times."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml
from serving.limits import LimitSettings
from serving.worker import GRACE_SECONDS, KEEP_ALIVE_SECONDS

from predictive_scoring.cli.app import app
from predictive_scoring.cli.serving import STOP_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "serving" / "deploy"
PAGES = (ROOT / "docs" / "operations.md", ROOT / "docs" / "deployment.md")
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))
EXTRAS = ("postgres", "crm", "otel")


def parsed(command: list[str]) -> dict[str, object]:
    """The parameters of a command line of ours; fails where a verb or an option does not exist."""
    verb, *rest = command
    found = typer.main.get_command(app).commands[verb]
    while hasattr(found, "commands"):
        verb, *rest = rest
        found = found.commands[verb]
    return found.make_context(verb, rest).params


def dockerfile() -> list[tuple[str, str]]:
    """Instruction and arguments of each line of the Dockerfile, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (DEPLOY / "Dockerfile").read_text("utf-8"), flags=re.MULTILINE)
    lines = [line.strip() for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


@pytest.mark.filterwarnings("ignore:GitWildMatchPattern:DeprecationWarning")  # of pathspec, in bentoml
def test_the_bento_is_built_from_what_the_package_needs():
    from bentoml._internal.bento.build_config import BentoBuildConfig

    with (DEPLOY / "bentofile.yaml").open(encoding="utf-8") as file:
        options = BentoBuildConfig.from_yaml(file)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    needed = project["dependencies"] + [
        one for extra in EXTRAS for one in project["optional-dependencies"][extra]
    ]
    assert list(options.python.packages or ()) == needed
    module, _, name = options.service.partition(":")
    assert f"class {name}" in (ROOT / f"{module.replace('.', '/')}.py").read_text("utf-8")
    for pattern in options.include or ():
        assert (ROOT / pattern.removesuffix("/**")).is_dir()


@pytest.mark.trial
def test_the_bento_builds_without_a_network(tmp_path):
    command = [
        sys.executable,
        "-m",
        "bentoml",
        "build",
        "-f",
        str(DEPLOY / "bentofile.yaml"),
        "-o",
        "tag",
        str(ROOT),
    ]
    environment = {"BENTOML_HOME": str(tmp_path), "BENTOML_DO_NOT_TRACK": "True", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        ["unshare", "-rn", *command], env=environment, capture_output=True, text=True, timeout=280
    )
    assert done.returncode == 0, done.stderr
    (source,) = tmp_path.glob("bentos/predictive_scoring/*/src")
    assert (source / "serving" / "service.py").is_file()
    assert (source / "src" / "predictive_scoring" / "scoring" / "scorer.py").is_file()


def test_the_image_runs_without_rights_and_is_asked_whether_it_lives():
    steps = dockerfile()
    last = len(steps) - 1 - [name for name, _ in reversed(steps)].index("FROM")
    final = dict(steps[last:])
    assert final["USER"].isdecimal()
    assert int(final["USER"]) > 0
    command = json.loads(final["CMD"])
    assert json.loads(final["ENTRYPOINT"]) == ["predictive-scoring"]
    options = parsed(command)
    assert str(options["port"]) == final["EXPOSE"]
    assert f"127.0.0.1:{options['port']}/livez" in final["HEALTHCHECK"]
    extras = next(text for name, text in steps if name == "RUN" and "pip install" in text)
    assert f"[{','.join(EXTRAS)}]" in extras
    assert "constraints.txt" in extras
    # Every path that is copied is let through to the build.
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text("utf-8").splitlines()
    for needed in ("src", "serving", "pyproject.toml", "constraints.txt", "README.md", "LICENSE"):
        assert f"!{needed}" in kept
        assert (ROOT / needed).exists()


def test_compose_starts_the_store_before_whoever_needs_it():
    services = COMPOSE["services"]
    for name, service in services.items():
        for needed, how in service.get("depends_on", {}).items():
            assert needed in services, name
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
        for volume in service.get("volumes", ()):
            source = volume.partition(":")[0]
            assert source.startswith(".") or source in COMPOSE["volumes"], volume
    assert services["service"]["depends_on"]["migrate"]["condition"] == "service_completed_successfully"
    migrate, serve, work = (parsed(services[name]["command"]) for name in ("migrate", "service", "worker"))
    assert migrate["project"] == serve["project"] == work["project"] == Path("/project/scoring.yaml")
    assert serve["background"] is False
    assert services["service"]["ports"] == [f"127.0.0.1:{serve['port']}:{serve['port']}"]
    for name in ("service", "worker"):
        assert int(services[name]["stop_grace_period"].removesuffix("s")) > STOP_SECONDS
        assert services[name]["read_only"] is True
    address = services["service"]["environment"]["PREDICTIVE_SCORING_DATABASE_URL"]
    assert "@database/" in address
    # No secret has a value of its own.
    assert "${POSTGRES_PASSWORD:?" in address


def unit() -> configparser.ConfigParser:
    read = configparser.ConfigParser(strict=False, interpolation=None)
    read.optionxform = str
    read.read(DEPLOY / "predictive-scoring.service", encoding="utf-8")
    return read


def test_the_unit_stops_the_launcher_first_and_gives_it_time():
    service = unit()["Service"]
    program, *command = shlex.split(service["ExecStart"])
    assert program.endswith("/predictive-scoring")
    options = parsed(command)
    assert options["models"] == Path("/var/lib") / service["StateDirectory"]
    assert int(service["TimeoutStopSec"]) > STOP_SECONDS > GRACE_SECONDS
    assert (service["KillMode"], service["Restart"]) == ("mixed", "on-failure")
    assert (service["NoNewPrivileges"], service["ProtectSystem"], service["DynamicUser"]) == (
        "yes",
        "strict",
        "yes",
    )


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not on this machine")
def test_systemd_understands_the_unit(tmp_path):
    text = (DEPLOY / "predictive-scoring.service").read_text("utf-8")
    changed = tmp_path / "predictive-scoring.service"
    changed.write_text(re.sub(r"^ExecStart=\S+", "ExecStart=/bin/true", text, flags=re.MULTILINE), "utf-8")
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(changed)], capture_output=True, text=True
    )
    complaints = [line for line in done.stderr.splitlines() if "predictive-scoring" in line]
    assert not complaints


@pytest.mark.parametrize("name", ["nginx.conf", "Caddyfile"])
def test_the_proxy_agrees_with_the_service(name):
    text = (DEPLOY / name).read_text("utf-8")
    code = re.sub(r"#.*", "", text)
    assert code.count("{") == code.count("}")
    assert "127.0.0.1:3000" in code
    assert "/metrics" in code
    size = LimitSettings().body
    assert f"client_max_body_size {size}" in code or f"max_size {size // 10**6}MB" in code
    keep = re.search(r"keepalive(?:_timeout)? (\d+)s", code)
    assert int(keep[1]) < KEEP_ALIVE_SECONDS
    assert "crm.example.com" in code


def test_every_variable_and_every_option_that_is_named_exists():
    code = "\n".join(
        path.read_text("utf-8") for folder in ("src", "serving") for path in (ROOT / folder).rglob("*.py")
    )
    commands = typer.main.get_command(app)
    options: set[str] = set()
    waiting = list(commands.commands.values())
    while waiting:
        one = waiting.pop()
        waiting += getattr(one, "commands", {}).values()
        options |= {name for parameter in one.params for name in (*parameter.opts, *parameter.secondary_opts)}
    for path in (*sorted(DEPLOY.iterdir()), *PAGES):
        text = path.read_text("utf-8")
        for variable in set(re.findall(r"PREDICTIVE_SCORING_[A-Z_]*[A-Z]", text)):
            assert variable in code, f"{path.name}: {variable}"
        for line in re.findall(r"predictive-scoring ([a-z]+ .*)", text):
            for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", line):
                assert option in options, f"{path.name}: {option}"
