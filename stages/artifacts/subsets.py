"""Label subsets: the train images whose labels an evaluation may use, as a list of rows in a text file.

After comment lines with ``# key: value``, a row's index a line:

    # dataset: digits
    # fingerprint: 5f2c...
    # percent: 10
    # seed: 0
    # images: 136
    3
    17

A published list can be written in the same form: its ``fingerprint`` and ``percent`` have to be there, other comments
need not.
"""

import dataclasses
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages.artifacts.atomic import atomic_with_digest
from stages.artifacts.embeddings import Embeddings
from stages.errors import UserError


@dataclasses.dataclass(frozen=True)
class Subset:
    """The ``rows`` of a dataset's train split, rising, that have labels: ``percent`` of it, as drawn by ``seed``."""

    dataset: str
    fingerprint: str
    percent: int
    seed: str
    rows: NDArray[np.int64]


def write_subset(path: Path, subset: Subset) -> None:
    facts = {
        "dataset": subset.dataset,
        "fingerprint": subset.fingerprint,
        "percent": subset.percent,
        "seed": subset.seed,
        "images": len(subset.rows),
    }
    comments = (f"# {key}: {value}" for key, value in facts.items())
    with atomic_with_digest(path) as temporary:
        temporary.write_text("\n".join([*comments, *map(str, subset.rows.tolist()), ""]))


def read_subset(path: Path) -> Subset:
    """The list at ``path``; a line that is neither a comment nor a row's index is an error, and so is a row twice."""
    facts, rows = {}, []
    if not path.is_file():
        raise UserError(f"{path}: no such list of labelled images; make it with stages.label_subset")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: is no text ({error}); expected a list of labelled images") from error
    for number, line in enumerate(text.splitlines(), start=1):
        if fact := re.fullmatch(r"#\s*(\w+):\s*(.*?)\s*", line):
            facts[fact[1]] = fact[2]
        elif re.fullmatch(r"\d{1,18}", line.strip()):
            rows.append(int(line))
        elif line.strip() and not line.startswith("#"):
            raise UserError(f"{path}: line {number} is {line!r}; expected a row's index, or a comment after '#'")
    for key in ("fingerprint", "percent"):
        if key not in facts:
            raise UserError(f"{path}: has no line '# {key}: ...'; expected one, of the train split it lists rows of")
    if not re.fullmatch(r"\d{1,3}", facts["percent"]):
        raise UserError(f"{path}: its percent is {facts['percent']!r}; expected a whole number, 100 at most")
    if len(set(rows)) != len(rows) or facts.get("images", str(len(rows))) != str(len(rows)):
        raise UserError(
            f"{path}: lists {len(rows)} rows, {len(set(rows))} of them different; expected "
            f"{facts.get('images', 'as many')} different ones: the file was cut or edited, make it again"
        )
    return Subset(
        dataset=facts.get("dataset", ""),
        fingerprint=facts["fingerprint"],
        percent=int(facts["percent"]),
        seed=facts.get("seed", ""),
        rows=np.array(sorted(rows), dtype=np.int64),
    )


def labelled_rows(percent: int, files: Sequence[Path], train: Embeddings) -> NDArray[np.int64]:
    """The rows of ``train`` that have labels: all of them at 100 percent, else those that one of the ``files`` lists.

    Raises:
        UserError: no file lists that many percent, or the one that does lists another dataset's images.
    """
    if percent == 100:
        return np.arange(len(train.labels))
    found = {subset.percent: (path, subset) for path, subset in ((path, read_subset(path)) for path in files)}
    if percent not in found:
        known = ", ".join(f"{each}%" for each in sorted(found)) or "none"
        raise UserError(f"--labels asks for {percent}% of the labels, and --subsets gives lists of {known}")
    path, subset = found[percent]
    if subset.fingerprint != train.dataset_fingerprint:
        raise UserError(
            f"{path}: lists images of {subset.dataset or 'a dataset'} ({subset.fingerprint[:12]}), but {train.path} "
            f"holds {train.dataset} ({train.dataset_fingerprint[:12]}); make a list of these images"
        )
    if not len(subset.rows) or subset.rows[-1] >= len(train.labels):
        last = subset.rows[-1] if len(subset.rows) else "none"
        raise UserError(f"{path}: its last row is {last}; expected some of 0 to {len(train.labels) - 1}")
    return subset.rows
