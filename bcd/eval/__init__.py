"""How detections are judged: pure functions of a data set and one `Detections` for each of its images."""

from bcd.detections.files import PredictionsError
from bcd.eval.coco import evaluate
from bcd.eval.predictions import Predictions, load_predictions, save_predictions
from bcd.eval.report import Report, make_report

__all__ = [
    "Predictions",
    "PredictionsError",
    "Report",
    "evaluate",
    "load_predictions",
    "make_report",
    "save_predictions",
]
