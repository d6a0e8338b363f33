"""After the promotion: whether the champion still holds, and how it is mended.

`monitor` compares those who are scored now with those the model was made from, and its probabilities with what
became of them; `recalibrate` refits the level of its probabilities without retraining.
"""

from predictive_scoring.monitoring.alarms import CODES, Alarm
from predictive_scoring.monitoring.matured import Matured, matured_rows
from predictive_scoring.monitoring.recalibrating import Recalibrated, recalibrate
from predictive_scoring.monitoring.watching import Monitoring, monitor

__all__ = [
    "CODES",
    "Alarm",
    "Matured",
    "Monitoring",
    "Recalibrated",
    "matured_rows",
    "monitor",
    "recalibrate",
]
