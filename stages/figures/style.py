"""What all figures share: the drawing settings, the colours, and files that depend on nothing but what they show."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from stages.artifacts.atomic import atomic
from stages.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

DPI = 150
WIDTH = 9.0
"""Inches: 1350 pixels, which a README shows at about two thirds."""

OKABE_ITO = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
"""Colours that colour-blind readers tell apart; black is kept for text."""

GREY = "#6E6E6E"

METADATA: dict[str, dict[str, str | None]] = {
    ".png": {"Software": None},
    ".svg": {"Date": None},
    ".pdf": {"CreationDate": None},
}
"""The kinds of file, and what is left out of each: dates and versions would make equal figures differ."""


def check_kind(path: Path) -> None:
    """Refuse a figure's name that does not say which kind of file it is."""
    if path.suffix not in METADATA:
        raise UserError(
            f"{path}: cannot draw a {path.suffix or 'nameless'} file; expected one of {', '.join(METADATA)}"
        )


@contextlib.contextmanager
def drawing(path: Path, height: float, layout: Literal["constrained"] | None = "constrained") -> Iterator["Figure"]:
    """Yield an empty figure, ``WIDTH`` by ``height`` inches; it is written to ``path`` if the block ends well."""
    import matplotlib as mpl
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    check_kind(path)
    settings: dict[Any, Any] = {
        **dict(mpl.rcParamsDefault),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.titlesize": "medium",
        "figure.constrained_layout.h_pad": 0.08,
        "figure.constrained_layout.w_pad": 0.1,
        "font.size": 10,
        "hatch.linewidth": 0.6,
        "svg.hashsalt": "distillery",
        "text.parse_math": False,  # A name may have dollars in it.
    }
    with mpl.rc_context(settings):
        figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=layout)
        FigureCanvasAgg(figure)
        yield figure
        with atomic(path) as temporary:
            figure.savefig(temporary, format=path.suffix[1:], dpi=DPI, metadata=METADATA[path.suffix])
