"""Whether less or more of a metric is better, by its name."""

from __future__ import annotations

import re

_MORE_IS_BETTER = re.compile(r"acc|auc|precision|recall|f1|fbeta|fmeasure|iou|dice|r2|bleu")


def more_is_better(metric: str) -> bool:
    """True for accuracies and their like, False for losses, errors and what is not known."""
    return _MORE_IS_BETTER.search(metric.lower()) is not None
