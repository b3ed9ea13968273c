"""Gather the results pages of several experiments in one folder: page below page, each with its figures in a folder.

PYTHONPATH=workflow python -m experiment.gather --name compress --page results/results.md --into folder
"""

import argparse
import re
import shutil
from pathlib import Path

LINK = re.compile(r"(?<=\]\()figures/([^)]+)(?=\))")


def gather(name: str, page: Path, into: Path) -> None:
    """Append ``page``, headed by the experiment's ``name``, to ``<into>/results.md``, and copy the figures it links.

    Raises:
        FileNotFoundError: the page, or a figure that it links, is not there.
    """
    text = page.read_text()
    for figure in dict.fromkeys(LINK.findall(text)):
        place = into / "figures" / name / figure
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(page.parent / "figures" / figure, place)
    text = LINK.sub(rf"figures/{name}/\1", text)
    with (into / "results.md").open("a") as file:
        file.write(re.sub(r"^# Results$", f"# Results: {name}", text, count=1, flags=re.MULTILINE))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--name", required=True, help="what to call the experiment")
    parser.add_argument("--page", type=Path, required=True, help="its results page, beside its folder of figures")
    parser.add_argument("--into", type=Path, required=True, help="the folder that gets results.md and figures/NAME/")
    arguments = parser.parse_args()
    gather(arguments.name, arguments.page, arguments.into)


if __name__ == "__main__":
    main()
