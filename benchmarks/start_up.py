"""Time how long it takes until a stage says something, and until Snakemake has decided what of all tables to run.

    python -m benchmarks.start_up
    python -m benchmarks.start_up --configfile workflow/configs/simdis.yaml

The limit of a stage's help is a bare Python. Of the decisions the time is the processor's, as Snakemake waits for none
of what it reads here; the datasets are not there, so their fingerprints are not in it (docs/scaling.md has them).
"""

import subprocess
import sys
from pathlib import Path

from benchmarks import dag
from benchmarks.rows import Row, in_turns, parser_of, report, timed


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--stage", default="knn", help="(default: knn)")
    parser.add_argument("--turns", type=int, default=5, help="of the help (default: 5)")
    parser.add_argument(
        "--configfile",
        type=Path,
        default=Path("workflow/configs/compress.yaml"),
        help="the experiment to decide (default: %(default)s)",
    )
    arguments = parser.parse_args()
    python = (sys.executable, "-c", "")
    helping = (sys.executable, "-m", f"stages.{arguments.stage}", "--help")
    ours, limit = in_turns(arguments.turns, lambda: seconds(helping), lambda: seconds(python))
    decided = dag.decisions(arguments.configfile.read_text())
    rows = [Row(f"python -m stages.{arguments.stage} --help, s", ours, limit=limit)]
    rows += [
        Row(f"deciding {arguments.configfile.stem}, {state}, {jobs} jobs to run, s", [spent])
        for state, jobs, spent in decided
    ]
    report(rows, arguments)


def seconds(command: tuple[str, ...]) -> float:
    return timed(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))


if __name__ == "__main__":
    main()
