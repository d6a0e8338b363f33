"""The model card: what a bundle is, in a page that a person can read."""

from __future__ import annotations

from predictive_scoring.keeping.bundle import ScoringModel


def model_card(scoring: ScoringModel, data_hash: str) -> str:
    """Markdown text; holds no date, run id or verdict, so that equal models have equal cards."""
    project, test = scoring.project, scoring.metrics["test"]
    periods = scoring.metrics["periods"]
    rows = "\n".join(
        f"| {name} | {part['examples']:,} | {part['conversions']:,} | "
        f"{part.get('first_cutoff', 'row order')} | {part.get('last_cutoff', '')} |"
        for name, part in periods.items()
    )
    figures = "\n".join(
        f"| {label} | {_figure(None if test is None else test[key])} |"
        for key, label in (
            ("auc", "AUC"),
            ("pr_auc", "Average precision"),
            ("log_loss", "Log-loss"),
            ("brier", "Brier score"),
            ("ece", "Expected calibration error"),
            ("base_rate", "Conversion rate of the period"),
            ("lift_at_10", "Lift in the top tenth"),
            ("capture_at_10", "Conversions captured in the top tenth"),
        )
    )
    leaks = "\n".join(f"- `{name}`: {why}" for name, why in project.leaks.items()) or "None declared."
    # Bundles made before there was a screen do not have it.
    waived = "\n".join(
        f"- {leak['code']} `{leak['feature']}` {leak['reason']}: {'; '.join(leak['evidence'])}. "
        f"Waived: {leak['waiver']}"
        for leak in scoring.metrics.get("leak_screen", {}).get("waived", ())
    )
    silent = "\n".join(f"- `{name}`: {why}" for name, why in scoring.metrics.get("set_aside", {}).items())
    return f"""# {project.name}

{project.description or "No description."}

**Predicts** the probability that a lead converts (`{project.conversion.event or project.conversion.column}`) within
{project.conversion.horizon_days} days of the instant it is scored.

{_rests_on(scoring)}

## Data

Data hash `{data_hash[:16]}`, {len(scoring.features)} features, time-ordered periods:

| period | examples | conversions | first cutoff | last cutoff |
|---|---|---|---|---|
{rows}

Columns declared as leaks and never read:

{leaks}

Suspected leaks that were read all the same, each waived by the project file with a reason:

{waived or "None."}

Features that are not read because they could raise the score of a lead that does nothing:

{silent or "None."}

## Quality on the test period (the newest, unseen in training)

| measure | value |
|---|---|
{figures}

## Use

Made to rank leads for sales and nurturing. Not for decisions about credit, employment, insurance or housing, and not
for leads unlike those above. The range beside a score speaks of leads with this score, never of one lead. A score
says how likely a conversion is, not that an action would cause one.
"""


_BASES = {
    "points_card": "**Cold start**: a points card whose level alone was fitted. What it says is what people believe; "
    "no outcome has tested it.",
    "ridge": "Rests on a points card and a ridge regression: there are too few conversions for trees.",
    "blend": "Rests on a ridge regression (with the points card inside) blended with boosted trees.",
}


def _rests_on(scoring: ScoringModel) -> str:
    evidence = scoring.model.evidence
    if evidence is None:
        return "What it rests on was not noted when it was made."
    return f"{_BASES[evidence.basis]} {evidence.conversions:,} conversions, {evidence.examples:,} examples."


def _figure(value: float | None) -> str:
    return "not measurable" if value is None else f"{value:.4f}"
