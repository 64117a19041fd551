"""How detections are judged."""

from bcd.eval.coco import evaluate

__all__ = ["evaluate"]
