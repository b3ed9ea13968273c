"""Whether one row of a table is above others, as somebody claims, by more than its seeds' deviation explains."""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import Literal, get_args

from stages.tables.points import Point

LEVEL = 0.05
"""The risk that is taken of a verdict where there is no difference."""

Verdict = Literal["holds", "does not hold", "within noise", "one seed"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


@dataclasses.dataclass(frozen=True)
class Pair:
    """Two measured cells of one column, of which ``better`` is claimed to be more than ``margin`` above ``worse``."""

    better: Point
    worse: Point
    margin: float

    @property
    def difference(self) -> float:
        return _mean(self.better) - _mean(self.worse)

    @property
    def reported(self) -> float | None:
        """The difference in the paper."""
        if self.better.reported is None or self.worse.reported is None:
            return None
        return self.better.reported - self.worse.reported

    @property
    def verdict(self) -> Verdict:
        """By Welch's t-test over the seeds, one-sided at `LEVEL` either way."""
        if min(self.better.seeds, self.worse.seeds) < 2:
            return "one seed"
        if self._is_above(self.better, self.worse, self.margin):
            return "holds"
        return "does not hold" if self._is_above(self.worse, self.better, -self.margin) else "within noise"

    @staticmethod
    def _is_above(one: Point, other: Point, margin: float) -> bool:
        """Whether ``one`` is more than ``margin`` above ``other`` beyond chance."""
        from scipy import stats

        above = _mean(one) - _mean(other) - margin
        if not one.std and not other.std:
            return above > 0
        samples = (above, one.std, one.seeds, 0.0, other.std, other.seeds)
        return bool(stats.ttest_ind_from_stats(*samples, equal_var=False, alternative="greater").pvalue < LEVEL)


def _mean(point: Point) -> float:
    assert point.mean is not None
    return point.mean


@dataclasses.dataclass(frozen=True)
class Claim:
    """That the row ``better`` is more than ``margin`` above each of ``worse``; of a negative one, not as much below."""

    text: str
    better: str
    worse: Sequence[str]
    margin: float

    @property
    def said(self) -> str:
        """Of the better row, as in "Cached, less than 1 below"."""
        if not self.margin:
            return f"{self.better} above"
        return f"{self.better}, {'more' if self.margin > 0 else 'less'} than {abs(self.margin):g} " + (
            "above" if self.margin > 0 else "below"
        )

    def pairs(self, points: Sequence[Point]) -> Iterator[Pair]:
        """Of the cells of a table, those of the rows in question, in every column and group that has both."""
        measured = {(point.group, point.column, point.row): point for point in points if point.mean is not None}
        for row in self.worse:
            for (group, column, other), point in measured.items():
                if other == row and (group, column, self.better) in measured:
                    yield Pair(measured[group, column, self.better], point, self.margin)
