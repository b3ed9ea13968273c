"""Average precision of a ranking, by PASCAL VOC's two definitions.

Both take at each recall the best precision at that recall or a higher one. VOC 2007 means it over the recalls 0, 0.1 to
1 (Everingham et al., "The PASCAL Visual Object Classes (VOC) Challenge", IJCV 2010, section 4.2); from 2010 on, it is
the area under that curve. What scores alike has no order, so it counts as found at once; the devkit leaves it in the
order of its files. Recalls are compared as fractions, which the devkit rounds first.
"""

import dataclasses
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclasses.dataclass(frozen=True)
class Curve:
    """At each score of a ranking: how many of its ``positives`` are ``found``, and the best ``precision`` from there.

    ``found`` int64 [K] increases and ``precision`` float64 [K] falls.
    """

    found: "NDArray[np.int64]"
    precision: "NDArray[np.float64]"
    positives: int

    @property
    def eleven_points(self) -> float:
        """VOC 2007's average precision, 0..1."""
        import numpy as np

        first = np.searchsorted(10 * self.found, self.positives * np.arange(11))
        return float(np.append(self.precision, 0)[first].sum() / 11)

    @property
    def area(self) -> float:
        """The average precision of VOC 2010 and later, 0..1."""
        import numpy as np

        return float(np.sum(np.diff(self.found, prepend=0) * self.precision) / self.positives)


def curve(scores: "NDArray[np.floating]", right: "NDArray[np.bool_]", positives: int) -> Curve:
    """The curve of ``scores`` [N], of which those that are ``right`` [N] find one each of ``positives``, above 0."""
    import numpy as np

    order = np.argsort(-scores)
    ordered = scores[order]
    last = np.flatnonzero(np.append(ordered[1:] != ordered[:-1], True))[: len(ordered)]
    found = np.cumsum(right[order], dtype=np.int64)[last]
    precision = np.maximum.accumulate((found / (last + 1))[::-1])[::-1]
    return Curve(found, precision, positives)
