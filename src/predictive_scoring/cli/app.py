"""The program: the verbs of every group under one name."""

from __future__ import annotations

import typer

from predictive_scoring.cli import keeping_verbs, modelling_verbs, preparing_verbs, running_verbs, using_verbs

app = typer.Typer(
    name="predictive-scoring",
    help="Predictive lead scoring and nurturing: train, promote, score, explain, serve.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode="rich",
)
for group in (preparing_verbs, modelling_verbs, using_verbs, keeping_verbs, running_verbs):
    app.add_typer(group.verbs)
