"""How wide a text is, and where a long one is broken."""

import functools
import re
from collections.abc import Callable, Collection, Sequence

BREAKS = (r"(?<=\s)(?!→)", r"(?<=--)", r"(?<=[-_/,])(?!-)", r"(?<=.)")
"""Where to break a text; at the later ones only what is too long still. Encoders' names are joined by two hyphens."""

SHORTEST = 6
"""Lines of fewer characters are harder to read than a text on its side."""


@functools.cache
def width_of(text: str, size: float, weight: str = "normal") -> float:
    """The width of a text's widest line, in inches."""
    from matplotlib import rc_context
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(weight=weight)
    with rc_context({"text.parse_math": False}):
        lines = [TextPath((0, 0), line, size, prop=font) for line in text.splitlines() if line.strip()]
    return max((line.get_extents().x1 for line in lines), default=0.0) / 72


def broken(text: str, characters: int, breaks: Sequence[str] = BREAKS) -> str:
    """The text in lines of at most so many characters, if the ``breaks`` allow it; those that it has stay."""
    if len(text.strip()) <= characters or not breaks:
        return text.strip()
    lines: list[str] = []
    for piece in (piece for line in text.splitlines(keepends=True) for piece in re.split(breaks[0], line)):
        if lines and not lines[-1].endswith("\n") and len((lines[-1] + piece).strip()) <= characters:
            lines[-1] += piece
        else:
            lines.append(piece)
    return "\n".join(broken(line, characters, breaks[1:]) for line in lines if line.strip())


def fitted(
    texts: Sequence[str], misfits: Callable[[Sequence[str]], Collection[int]], breaks: Sequence[str] = BREAKS
) -> list[str] | None:
    """The texts, with shorter lines of the widest of the ``misfits`` until there are none; None if that cannot be."""
    lines = list(texts)
    longest = [len(text) for text in texts]
    while found := misfits(lines):
        widest = max(found, key=lambda place: width_of(lines[place], 10))
        longest[widest] -= 1
        if longest[widest] < SHORTEST:
            return None
        lines[widest] = broken(texts[widest], longest[widest], breaks)
    return lines


def within(text: str, inches: float, size: float, weight: str = "normal") -> str:
    """The text in lines of at most so many inches."""
    lines = fitted([text], lambda texts: [0] if width_of(texts[0], size, weight) > inches else [])
    return lines[0] if lines else broken(text, SHORTEST)


def across(labels: Sequence[str], inches: float) -> int:
    """How many of these labels fit in a line of a legend, of which each column is as wide as its longest."""
    widths = [0.5 + width_of(label, 9) for label in labels]
    return len(widths) if sum(widths) < inches - 0.3 else max(1, int((inches - 0.3) / max(widths)))
