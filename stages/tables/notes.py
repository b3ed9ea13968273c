"""The sentences under a table that tables of all kinds share."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from stages.tables.results import Cell

DEVIATION = (
    "±: the sample standard deviation over the seeds of the encoder or, of a single encoder, over the repeats "
    "of the evaluation."
)


def seeds(rows: Mapping[str, Sequence[tuple[str, "Cell"]]]) -> Iterator[str]:
    """The seeds behind each row's cells, each with its place's name; a downloaded encoder's are not known."""
    texts = [f"{label} {text}" for label, cells in rows.items() if (text := _seeds_of(cells))]
    if texts:
        yield f"Seeds: {'; '.join(texts)}."


def _seeds_of(cells: Sequence[tuple[str, "Cell"]]) -> str:
    """The seeds of most of the cells, then those of the others."""
    places: dict[str, list[str]] = {}
    for place, cell in cells:
        if None not in cell.seeds:
            text = ", ".join(map(str, sorted(seed for seed in cell.seeds if seed is not None)))
            places.setdefault(text, []).append(place)
    usual = max(places, key=lambda text: len(places[text]), default="")
    exceptions = [f"{text} in {', '.join(where)}" for text, where in places.items() if text != usual]
    return usual + (f" (but {'; '.join(exceptions)})" if exceptions else "")


def repeats(cells: Sequence["Cell"]) -> str:
    """How often the evaluation was repeated on each encoder, if it was: a number, or the smallest and the largest."""
    counts = [cell.repeats for cell in cells]
    text = " to ".join(str(count) for count in dict.fromkeys((min(counts), max(counts))))
    return "" if text == "1" else f"; mean of {text} repeats"


def devices(cells: Sequence["Cell"]) -> str:
    """The machines whose speed was measured, by `stages.cost`."""
    notes = [result.metrics.notes for cell in cells for result in cell.results]
    names = dict.fromkeys(note["device"] for note in notes if "device" in note)
    return f"; forward passes on {' and '.join(names)}" if names else ""


def images(n: Mapping[str, int]) -> str:
    """As in ", 100 train and 20 val images (1 more left out)"; nothing of what needs none."""
    counts = " and ".join(f"{n[split]} {split}" for split in ("train", "val") if n.get(split))
    skipped = sum(n.get(f"{split}_skipped", 0) for split in ("train", "val"))
    left_out = f" ({skipped} more left out)" if skipped else ""
    return f", {counts} images{left_out}" if counts else ""
