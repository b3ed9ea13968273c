"""What the axes and legends of tables' figures say."""

from collections.abc import Sequence

from stages.tables.points import Point


def axis_label(points: Sequence[Point], given: str) -> str:
    """What is ``given``, or the name of the values, if they share one, and their unit."""
    values = dict.fromkeys(point.value for point in points if point.value)
    units = dict.fromkeys(point.unit for point in points if point.unit)
    unit = "%" if list(units) in ([], ["percent"]) else "/".join(units)
    return given or ", ".join(filter(None, (next(iter(values)) if len(values) == 1 else "value", unit)))


def mark_label(points: Sequence[Point]) -> str:
    """What the legend calls the reported numbers; empty without any."""
    both = [point for point in points if point.mean is not None and point.reported is not None]
    if both and all(point.difference is None for point in both):
        return "reported (other data or architectures)"
    return "reported" if any(point.reported is not None for point in points) else ""
