"""Progress of long work: a bar with rate and time left on a terminal, plain lines in a log file."""

import logging
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

T = TypeVar("T")

logger = logging.getLogger("stages")

LINE_EVERY_S = 10.0


def track(items: Iterable[T], what: str, total: int, unit: str) -> Iterator[T]:
    """Yield ``items`` and show how far, how fast and how long to go."""
    if sys.stderr.isatty():
        yield from tqdm(items, desc=what, total=total, unit=unit, dynamic_ncols=True)
        return
    start = last = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if done == total or now - last >= LINE_EVERY_S:
            last = now
            rate = done / (now - start)
            logger.info(
                "%s: %d of %d %s, %.3g %s/s, %.0f s left", what, done, total, unit, rate, unit, (total - done) / rate
            )
