"""Segments: groups of leads that share the level of an attribute, for which quality is told apart."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd

from predictive_scoring.settings import Project


def segment_columns(project: Project, frame: pd.DataFrame) -> dict[str, npt.NDArray[np.object_]]:
    """Levels per segment column (n,) of the rows in `frame`, as they stood at each cutoff."""
    return {name: frame[name].to_numpy(dtype=object) for name in project.segments if name in frame}
