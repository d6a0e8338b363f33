"""Pages that stand alone: one HTML file with its pictures, without network, scripts or fonts.

A template of this folder extends `base.html` (blocks `title`, `kicker`, `heading`, `lede`, `content`, `footer`)
and may import the macros of `parts.html`. Facts reach it escaped; a fact that is not given is an error.
"""

from __future__ import annotations

import io
import math
import re
from functools import cache
from importlib import resources
from typing import TYPE_CHECKING, Any

import jinja2
from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, ACCENT, REST, BAD = "#1c2b33", "#1d7a6d", "#9aa8b0", "#b4532a"
"""Colours of pictures. On a page each follows the reader's light or dark scheme."""
MISSING = "–"

_SCHEME = {
    INK: "var(--ink)",
    "#000000": "var(--ink)",  # what matplotlib draws axes and words with by default
    "#b0b0b0": "var(--rest)",  # and its grid
    "#333333": "var(--ink)",  # what shap writes with
    ACCENT: "var(--accent)",
    REST: "var(--rest)",
    BAD: "var(--hot)",
}
_STYLE: dict[Any, str] = {"svg.hashsalt": "predictive-scoring", "svg.fonttype": "none"}


def render(template: str, **facts: Any) -> str:
    """The page of `template` (a file of this folder) as HTML text.

    Raises jinja2.UndefinedError for a fact that the template names and nobody gave."""
    return _environment().get_template(template).render(**facts)


def figure_svg(figure: Figure, label: str | None = None) -> Markup:
    """A picture as inline SVG: as wide as its place allows, in the colours of the page, the same for the same figure.

    `label` is what a screen reader says (default: the title of its first axes). Large clouds of points belong on an
    artist with `set_rasterized(True)`. Call it once per figure: drawing fixes the layout."""
    import matplotlib as mpl

    # Without a salt the names inside are drawn at random.
    with mpl.rc_context(_STYLE):
        stream = io.StringIO()
        figure.savefig(
            stream,
            format="svg",
            dpi=144,
            transparent=True,
            metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")),
        )
    titles = [axes.get_title(loc="left") or axes.get_title() for axes in figure.axes]
    said = label if label is not None else next(filter(None, titles), "Picture")
    return Markup(_inline(stream.getvalue(), str(escape(said))))  # noqa: S704  drawn by matplotlib, text escaped


def _inline(drawn: str, label: str) -> str:
    """The `<svg>` element of a drawn file, for use inside a page."""
    element = drawn[drawn.index("<svg") :]
    element = re.sub(r"<metadata>.*?</metadata>\s*", "", element, flags=re.DOTALL)
    width, box = (re.search(pattern, element) for pattern in (r'width="([\d.]+)pt"', r'viewBox="[^"]+"'))
    natural = f"{float(width[1]) * 4 / 3:.0f}px" if width else "100%"
    head = f'<svg class="figure" {box[0] if box else ""} style="max-width:{natural}" role="img" aria-label="{label}">'
    element = re.sub(r"<svg[^>]*>", lambda _: head, element, count=1)
    # Counted names of groups would stand twice on a page with two pictures, and nothing refers to them.
    element = re.sub(r'<g id="[A-Za-z0-9.]+_\d+">', "<g>", element)
    element = re.sub(r"<!--.*?-->\s*", "", element, flags=re.DOTALL)
    # Fonts are the page's, and so is the rule for joints, which would reach into the page from here.
    element = re.sub(r"font-family: [^;\"]*(; )?", "", element)
    element = re.sub(r"font: (?:(\d+) )?([\d.]+)px [^;\"]*", _font, element)
    element = re.sub(r"<style.*?</style>\s*", "", element, flags=re.DOTALL)
    element = re.sub(r' transform="rotate\(-0 [^)]*\)"', "", element)
    for colour, scheme in _SCHEME.items():
        element = element.replace(colour, scheme)
    return re.sub(r"\n\s*", "\n", element).strip()


def _font(found: re.Match[str]) -> str:
    weight, size = found.groups()
    return f"font-size: {size}px" + (f"; font-weight: {weight}" if weight else "")


@cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FunctionLoader(_source),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "percent": percent, "decimal": decimal, "prose": prose}
    return environment


def _source(name: str) -> str | None:
    found = resources.files(__name__).joinpath(name)
    return found.read_text("utf-8") if found.is_file() else None


def number(value: float | None, digits: int = 0) -> str:
    """12345.6 -> `12,346`; a dash where there is none."""
    return MISSING if _absent(value) else f"{value:,.{digits}f}"


def percent(share: float | None) -> str:
    """0.0123 -> `1.2 %`, 0.25 -> `25 %`; a dash where there is none."""
    if share is None or _absent(share):
        return MISSING
    return f"{100 * share:.1f} %" if 0 < abs(share) < 0.1 else f"{100 * share:.0f} %"


def decimal(value: float | None, digits: int = 3) -> str:
    """0.12345 -> `0.123`; a dash where there is none."""
    return MISSING if _absent(value) else f"{value:.{digits}f}"


def prose(text: str) -> Markup:
    """Escaped text, what stands between backticks as code."""
    parts = [
        Markup("<code>{}</code>").format(part) if place % 2 else escape(part)
        for place, part in enumerate(text.split("`"))
    ]
    return Markup().join(parts)


def _absent(value: float | None) -> bool:
    return value is None or math.isnan(value)
