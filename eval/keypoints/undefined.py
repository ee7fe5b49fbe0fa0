"""Figures that are undefined: NaN where they are computed, None in JSON, which has no NaN."""

import math
from typing import Any


def none_for_nan(value: Any) -> Any:
    """The same figures with None for each NaN, in dictionaries and lists at any depth."""
    if isinstance(value, dict):
        return {key: none_for_nan(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [none_for_nan(inner) for inner in value]
    return None if isinstance(value, float) and math.isnan(value) else value
