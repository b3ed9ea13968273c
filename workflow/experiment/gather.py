"""Gather the results pages of several experiments on one: page below page, each with its figures in a folder.

PYTHONPATH=workflow python -m experiment.gather --configfile workflow/configs/small/compress.yaml --into docs/results.md

With --metrics, all that an experiment measured goes beside it, into metrics/<its name>.jsonl: a metrics file a line.
"""

import argparse
import json
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

import yaml

from experiment.config import Experiment

LINK = re.compile(r"(?<=\]\()figures/([^)]+)(?=\))")


def gather(name: str, page: Path, into: Path) -> None:
    """Append ``page``, headed by the experiment's ``name``, to ``into``, and copy the figures it links beside that.

    Raises:
        FileNotFoundError: the page, or a figure that it links, is not there.
    """
    text = page.read_text()
    for figure in dict.fromkeys(LINK.findall(text)):
        place = into.parent / "figures" / name / figure
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page.parent / "figures" / figure, place)
    text = LINK.sub(rf"figures/{name}/\1", text)
    with into.open("a") as file:
        file.write(re.sub(r"^# Results$", f"# Results: {name}", text, count=1, flags=re.MULTILINE))


def gather_metrics(files: Iterable[Path], into: Path) -> None:
    """Write the metrics ``files``, each as a line.

    Raises:
        FileNotFoundError: a file is not there.
    """
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_text("".join(json.dumps(json.loads(file.read_text()), sort_keys=True) + "\n" for file in files))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--configfile", type=Path, required=True, help="the experiment, which has run")
    parser.add_argument(
        "--into", type=Path, required=True, help="the page to append to; it gets figures/NAME/ beside it"
    )
    parser.add_argument(
        "--metrics", action="store_true", help="gather what was measured as well, in metrics/NAME.jsonl"
    )
    arguments = parser.parse_args()
    name = arguments.configfile.stem
    gather(name, Path("results/results.md"), arguments.into)
    if arguments.metrics:
        measured = Experiment(yaml.safe_load(arguments.configfile.read_text())).measurements
        gather_metrics((Path(m.file) for m in measured), arguments.into.parent / "metrics" / f"{name}.jsonl")


if __name__ == "__main__":
    main()
