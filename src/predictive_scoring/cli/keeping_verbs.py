"""Verbs about what is kept and who may read it, and about the CRM on the other side.

Heavy imports happen inside them, so that `--help` is quick."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

from predictive_scoring.cli import output
from predictive_scoring.cli.options import (
    MODELS,
    PROJECT,
    SCORES,
    DatabaseOption,
    JsonOption,
    ModelsOption,
    ProjectOption,
    example,
)

verbs = typer.Typer(rich_markup_mode="rich")


@verbs.command(
    no_args_is_help=True,
    epilog=example(
        "predictive-scoring connect hubspot pull --project crm/scoring.yaml",
        "predictive-scoring connect hubspot push --scores scores.jsonl --create-fields",
        "predictive-scoring connect salesforce pull --since 2025-01-01T00:00:00Z",
        "predictive-scoring connect salesforce push --scores scores.jsonl --key External_Id__c --dry-run",
        "predictive-scoring connect hubspot pull --into-store",
        "predictive-scoring connect hubspot push --from-store",
    ),
)
def connect(
    system: Annotated[str, typer.Argument(help="hubspot or salesforce.")],
    direction: Annotated[str, typer.Argument(help="pull (tables from the CRM) or push (scores into it).")],
    project: ProjectOption = PROJECT,
    tables: Annotated[
        Path | None,
        typer.Option(help="Folder of the tables; default: tables/SYSTEM beside the project file."),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(help="pull: the first one begins here, with offset; default: from the start."),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(
            help="pull: only these properties of a lead (repeatable); default: all but personal ones."
        ),
    ] = None,
    scores: Annotated[Path, typer.Option(help="push: the scores, as score --out wrote them.")] = SCORES,
    into_store: Annotated[
        bool, typer.Option("--into-store", help="pull: bring the project's tables into the store, too.")
    ] = False,
    from_store: Annotated[
        bool, typer.Option("--from-store", help="push: what changed in the store since the last push.")
    ] = False,
    key: Annotated[
        str | None,
        typer.Option(help="push: the CRM's unique field that holds the lead id; default: its record id."),
    ] = None,
    create_fields: Annotated[
        bool, typer.Option("--create-fields", help="push: create missing properties (HubSpot).")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="push: say how much would be written, ask nobody.")
    ] = False,
    deadline: Annotated[str, typer.Option(help="Stop after this time; run again, it goes on.")] = "2h",
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Pull tables from a CRM, or push changed scores into it. Credentials are read from the environment."""
    with output.answering(as_json):
        from predictive_scoring.cli import connecting

        connecting.connect(
            system,
            direction,
            project=project,
            tables=tables,
            since=since,
            fields=tuple(field or ()),
            scores=scores,
            key=key,
            create_fields=create_fields,
            dry_run=dry_run,
            deadline=deadline,
            store=models if (into_store if direction == "pull" else from_store) else None,
            url=database_url,
            as_json=as_json,
        )


@verbs.command(
    no_args_is_help=True,
    epilog=example(
        "predictive-scoring keys create --name HubSpot --scope crm --expires 365d",
        "predictive-scoring keys list --json",
        "predictive-scoring keys revoke 0f3a9c51d2b7",
    ),
)
def keys(
    action: Annotated[str, typer.Argument(help="create, list or revoke.")],
    key_id: Annotated[str | None, typer.Argument(help="revoke: the id of the key.")] = None,
    name: Annotated[str | None, typer.Option(help="create: which system will use it.")] = None,
    scope: Annotated[
        list[str] | None, typer.Option(help="create: crm, marketer, analyst or admin (repeatable).")
    ] = None,
    expires: Annotated[
        str | None, typer.Option(help="create: valid for so long, such as 365d; default: until revoked.")
    ] = None,
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Create, list and revoke the API keys of the service. A new key is shown once and kept as a hash."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.keys(
            action,
            key_id,
            name=name,
            scopes=tuple(scope or ()),
            expires=expires,
            project=project,
            models=models,
            url=database_url,
            now=int(time.time()),
            as_json=as_json,
        )


@verbs.command(
    no_args_is_help=True,
    epilog=example(
        "predictive-scoring webhooks list",
        "predictive-scoring webhooks retry 17 18",
        "predictive-scoring webhooks retry --json",
    ),
)
def webhooks(
    action: Annotated[str, typer.Argument(help="list (those that were given up) or retry.")],
    messages: Annotated[
        list[int] | None, typer.Argument(help="retry: only these; default: all that were given up.")
    ] = None,
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """List the webhooks that never arrived and were given up, or try them again from the beginning."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.webhooks(
            action,
            tuple(messages or ()),
            project=project,
            models=models,
            url=database_url,
            now=int(time.time()),
            as_json=as_json,
        )


@verbs.command(
    no_args_is_help=True,
    epilog=example("predictive-scoring erase CRM-4711", "predictive-scoring erase CRM-4711 --yes --json"),
)
def erase(
    lead: Annotated[str, typer.Argument(help="Any id of the lead.")],
    yes: Annotated[bool, typer.Option("--yes", help="Erase; without it only the counts are shown.")] = False,
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Erase a lead from the store and the kept vectors, for good: late events do not bring it back."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.erase(
            lead,
            yes,
            project=project,
            models=models,
            url=database_url,
            now=int(time.time()),
            as_json=as_json,
        )


@verbs.command(no_args_is_help=True, epilog=example("predictive-scoring subject CRM-4711"))
def subject(
    lead: Annotated[str, typer.Argument(help="Any id of the lead.")],
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Print everything that is held about one lead, as one JSON document (with or without --json)."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.subject(lead, project=project, models=models, url=database_url)


@verbs.command(
    no_args_is_help=True,
    epilog=example("predictive-scoring audit verify", "predictive-scoring audit verify --head 5d41… --json"),
)
def audit(
    action: Annotated[str, typer.Argument(help="verify.")],
    head: Annotated[
        str | None, typer.Option(help="A hash that was noted elsewhere and must still be in the chain.")
    ] = None,
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Verify the audit log. Exit 3, with the first broken row, if it was changed after it was written."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.audit(action, head, project=project, models=models, url=database_url, as_json=as_json)


@verbs.command(
    epilog=example(
        "predictive-scoring export --project crm/scoring.yaml",
        "predictive-scoring export --database-url postgresql://scoring@db/scoring",
    )
)
def export(
    project: ProjectOption = PROJECT,
    models: ModelsOption = MODELS,
    database_url: DatabaseOption = None,
    as_json: JsonOption = False,
) -> None:
    """Write the store's history into the project's tables (Parquet), to train and score on."""
    with output.answering(as_json):
        from predictive_scoring.cli import storing

        storing.export(project=project, models=models, url=database_url, as_json=as_json)
