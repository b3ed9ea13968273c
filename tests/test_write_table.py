"""The tables of what was measured beside what is reported, against ones written out by hand."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stages import results_page, write_table
from stages.artifacts.metrics import Metrics, write_metrics
from stages.errors import UserError
from stages.tables.layout import MINUS, signed
from stages.tables.notes import images
from stages.tables.reported import Number, Place, read_reported
from tests.conftest import assert_refused, card, program

Write = Callable[..., Path]

PAPER = {
    "citation": {"title": "A Paper", "venue": "A Journal", "year": 2020},
    "tables": {
        "table-1": {
            "title": "50% | all",
            "section": "4.1",
            "numbers": {
                "Teacher": {"Linear": 70.8, "NN": 57.3},
                "CC": {"Linear": 46.4},
                "Ours": {"Linear": {"value": 59.0, "note": "f7"}, "NN": {"value": 50.7, "deviation": 0.3}, "CA": 27.6},
            },
        },
        "table-2": {
            "title": "Views of T̂",
            "numbers": {
                "Ŝ-v, T̂-v": {"A": {"1%": 10.0, "10%": 20.0, "100%": 30.0}, "B": {"1%": 11.0}, "C": {"1%": 1}},
                "Only B": {"B": {"1%": 12.5}},
            },
        },
    },
}

MARKDOWN = """\
## 50% \\| all

|         |                     Linear |                            NN |
|---------|---------------------------:|------------------------------:|
| Teacher |          70.0 (70.8, −0.8) |             60.0 (57.3, +2.7) |
| CC      |             not run (46.4) |                             – |
| Ours    | **61.0 ± 1.4** (59.0 [f7], +2.0) |     50.7 ± 0.7 (50.7 ± 0.3, +0.0) |
| Mine    | 55.5                       |                             – |

- Reported: A Paper (A Journal 2020), table 1, section 4.1.
- Each cell: measured (reported, measured − reported).
- In the paper's table but not here: CA.
- Dataset: toy, 100 train and 20 val images.
- Linear: top1 in percent; the protocol of linear.
- NN: top1 in percent; the protocol of knn.
- Seeds: Teacher 0; Ours 0, 1; Mine 0.
- ±: the sample standard deviation over the seeds of the encoder or, of a single encoder, over the repeats of the evaluation.
- Bold: the best measured of the column, Teacher aside.
- –: neither run nor reported.
- Of our own.
"""  # noqa: E501, RUF001

LATEX = r"""% \usepackage{booktabs}
\begin{table}
\centering
\caption{Views of $\hat{T}$}
\begin{tabular}{lrrr}
\toprule
A & 1\% & 10\% & 100\% \\
\midrule
$\hat{S}$-v, $\hat{T}$-v & 9.0 (10.0, $-$1.0) & not run (20.0) & not run (30.0) \\
\bottomrule
\end{tabular}

\medskip
\begin{tabular}{lr}
\toprule
B & 1\% \\
\midrule
$\hat{S}$-v, $\hat{T}$-v & not run (11.0) \\
Only B & \textbf{13.0} (12.5, +0.5) \\
Mine & 12.0 \\
\bottomrule
\end{tabular}
"""


def squeezed(markdown: str) -> str:
    """Without the padding of cells."""
    return re.sub(r"-{2,}:?", "-", re.sub(r" *\| *", "|", markdown))


@pytest.fixture
def paper(tmp_path: Path) -> Path:
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump(PAPER, sort_keys=False, allow_unicode=True))
    return path


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes the metrics of an encoder by an evaluation."""

    def write(
        name: str,
        evaluation: str,
        values: Mapping[str, float],
        *,
        seed: int = 0,
        dataset: str = "toy",
        units: Mapping[str, str] | None = None,
        notes: Mapping[str, str] | None = None,
    ) -> Path:
        origin = {"way": "distill", "method": "m", "dataset": dataset, "seed": seed, "teacher": "big"}
        path = tmp_path / "metrics" / f"{name}-{evaluation}-{dataset}.json"
        metrics = Metrics(
            encoder=json.loads(card(name=name, origin=origin).to_json()),
            dataset=dataset,
            evaluation=evaluation,
            protocol=f"the protocol of {evaluation}",
            values=values,
            deviations={},
            n={"train": 100, "val": 20},
            seeds=(0,),
            options={},
            wall_time_s=1.0,
            units=units or {},
            notes=notes or {},
        )
        write_metrics(path, metrics)
        return path

    return write


def written_table(folder: Path, *arguments: object) -> dict[str, str]:
    """The three tables, by the kind of file."""
    outputs = {kind: folder / f"tables/table.{kind}" for kind in ("markdown", "csv", "latex")}
    flags = [part for kind, path in outputs.items() for part in (f"--{kind}", path)]
    write_table.main([*map(str, arguments), *map(str, flags)])
    return {kind: path.read_text() for kind, path in outputs.items()}


@pytest.fixture
def table(tmp_path: Path, write: Write, paper: Path) -> dict[str, str]:
    """The first table of the paper, with two seeds of a student, a row of our own, and one that was not run."""
    ours = [write(f"ours{seed}", "linear", {"top1": 60.0 + 2 * seed, "top5": 0}, seed=seed) for seed in (0, 1)]
    near = [write(f"ours{seed}", "knn", {"top1": 50.2 + seed}, seed=seed) for seed in (0, 1)]
    return written_table(
        tmp_path,
        *("--rows", "Teacher", "Ours", "Mine", "--columns", "Linear", "NN", "--references", "Teacher"),
        *("--cell", "", "Teacher", "Linear", "", write("big", "linear", {"top1": 70.0})),
        *("--cell", "", "Teacher", "NN", "", write("big", "knn", {"top1": 60.0})),
        *("--cell", "", "Ours", "Linear", "top1", *ours, "--cell", "", "Ours", "NN", "", *near),
        *("--cell", "", "Mine", "Linear", "", write("mine", "linear", {"top1": 55.5})),
        *("--paper", paper, "--table", "table-1", "--note", "Of our own."),
    )


def test_markdown_by_hand(table: dict[str, str]) -> None:
    assert squeezed(table["markdown"]) == squeezed(MARKDOWN)


def test_csv_by_hand(table: dict[str, str]) -> None:
    linear, near = (
        "percent,{},toy,100,20,{},the protocol of linear,{}",
        "percent,{},toy,100,20,{},the protocol of knn,{}",
    )
    assert table["csv"].splitlines() == [
        "group,row,column,value,unit,mean,std,seeds,repeats,dataset,n_train,n_val,reported,reported_deviation,"
        "difference,protocol,encoders",
        ",Teacher,Linear,top1," + linear.format("70.0,,0,1", "70.8,,-0.8", "big"),
        ",Teacher,NN,top1," + near.format("60.0,,0,1", "57.3,,2.7", "big"),
        ",CC,Linear,,,,,,,,,,46.4,,,,",
        ",Ours,Linear,top1," + linear.format("61.0,1.414214,0 1,1", "59.0,,2.0", "ours0 ours1"),
        ",Ours,NN,top1," + near.format("50.7,0.707107,0 1,1", "50.7,0.3,0.0", "ours0 ours1"),
        ",Mine,Linear,top1," + linear.format("55.5,,0,1", ",,", "mine"),
    ]


def test_bold_is_the_best_of_its_column_and_group_and_whatever_looks_as_good(tmp_path: Path, write: Write) -> None:
    found = {"A": {"One": 60.04, "Two": 59.96, "Three": 59.94}, "B": {"One": 70.0, "Two": 71.0, "Three": 69.0}}
    places = [(group, row) for group, rows in found.items() for row in rows]
    cells = [
        ("--cell", group, row, "NN", "top1", write(f"{group}{row}", "knn", {"top1": found[group][row]}))
        for group, row in places
    ]
    names = ("--groups", "A", "B", "--rows", "One", "Two", "Three", "--columns", "NN")
    text = squeezed(written_table(tmp_path, *names, *(word for cell in cells for word in cell))["markdown"])
    assert "|One|**60.0**|70.0|" in text
    assert "|Two|**60.0**|**71.0**|" in text
    assert "|Three|59.9|69.0|" in text


def test_a_difference_that_rounds_to_nothing_has_no_minus() -> None:
    assert [signed(each) for each in (-0.04, 0.04, -0.06, 12.34)] == ["+0.0", "+0.0", f"{MINUS}0.1", "+12.3"]


def test_wide_groups_are_one_below_the_other_with_what_each_has(tmp_path: Path, write: Write, paper: Path) -> None:
    few = {"top1@1%": 9.0, "top1@10%": 21.0}
    written = written_table(
        tmp_path,
        *("--groups", "A", "B", "--rows", "Ŝ-v, T̂-v", "Only B", "Mine", "--columns", "1%", "10%", "100%"),
        *("--cell", "A", "Ŝ-v, T̂-v", "1%", "top1@1%", write("a", "linear", few)),
        *("--cell", "B", "Only B", "1%", "top1", write("b", "linear", {"top1": 13.0})),
        *("--cell", "B", "Mine", "1%", "top1", write("c", "linear", {"top1": 12.0})),
        *("--paper", paper, "--table", "table-2"),
    )
    assert written["latex"].startswith(LATEX)
    assert written["latex"].isascii()
    assert (
        "1%: top1@1% in percent; the protocol of linear (A); top1 in percent; the protocol of linear (B)."
        in (written["markdown"])
    )
    assert "In the paper's table but not here: C." in written["markdown"]


def test_few_columns_of_groups_are_side_by_side(tmp_path: Path, write: Write) -> None:
    cells = [("--cell", group, "Ours", "NN", "", write("a", "knn", {"top1": 1.0})) for group in ("A", "B")]
    text = written_table(tmp_path, *sum(cells, ()), "--groups", "A", "B", "--rows", "Ours", "--columns", "NN")[
        "markdown"
    ]
    assert squeezed(text).splitlines()[:4] == ["||A|B|", "|-|-|-|", "||NN|NN|", "|Ours|1.0|1.0|"]


def test_rows_of_a_column_that_were_measured_in_two_ways_are_named(tmp_path: Path, write: Write) -> None:
    files = {"Ours": write("a", "knn", {"top1": 1.0}), "Mine": write("b", "linear", {"top1": 2.0})}
    cells = [("--cell", "", row, "Top-1", "", file) for row, file in files.items()]
    text = written_table(tmp_path, *sum(cells, ()), "--rows", *files, "--columns", "Top-1")["markdown"]
    one, other = (f"top1 in percent; the protocol of {name}" for name in ("knn", "linear"))
    assert f"- Top-1: {one} (Ours); {other} (Mine).\n" in text
    assert "not run" not in text, "as all is there"


def test_without_a_paper_nothing_is_reported(tmp_path: Path, write: Write) -> None:
    cell = ("--cell", "", "Ours", "NN", "", write("a", "knn", {"top1": 1.0}))
    text = written_table(tmp_path, *cell, "--rows", "Ours", "--columns", "NN", "CA")["markdown"]
    assert "|Ours|1.0|–|" in squeezed(text)  # noqa: RUF001
    assert "- –: not run.\n" in text  # noqa: RUF001
    assert "eported" not in text


def test_other_data_is_not_subtracted(tmp_path: Path, write: Write, paper: Path) -> None:
    written = written_table(
        tmp_path,
        *("--cell", "", "Ours", "NN", "", write("a", "knn", {"top1": 1.0}, dataset="digits")),
        *("--rows", "Ours", "--columns", "NN", "--paper", paper, "--comparable", "false"),
    )
    assert "|Ours|1.0 (50.7 ± 0.3)|" in squeezed(written["markdown"])
    assert "Measured on digits: not comparable with the reported numbers" in written["markdown"]
    assert {row["difference"] for row in csv.DictReader(io.StringIO(written["csv"]))} == {""}


def test_what_was_measured_in_another_way_is_not_subtracted(tmp_path: Path, write: Write) -> None:
    paper = tmp_path / "paper.yaml"
    numbers = {"Supervised": {"NN": {"value": 50.0, "note": "its own", "comparable": False}}, "Ours": {"NN": 40.0}}
    paper.write_text(yaml.safe_dump({"tables": {"table-1": {"numbers": numbers}}}, sort_keys=False))
    cells = [("--cell", "", row, "NN", "", write(row, "knn", {"top1": 45.0})) for row in ("Supervised", "Ours")]
    text = written_table(tmp_path, *sum(cells, ()), "--rows", "Supervised", "Ours", "--columns", "NN", "--paper", paper)
    assert "|45.0 (50.0 [its own])|" in squeezed(text["markdown"]).replace("**", "")
    assert "|45.0 (40.0, +5.0)|" in squeezed(text["markdown"]).replace("**", "")
    assert "- Without a difference: " in text["markdown"]
    assert [row["difference"] for row in csv.DictReader(io.StringIO(text["csv"]))] == ["", "5.0"]


def test_a_value_that_an_encoder_does_not_have_leaves_its_place_empty(tmp_path: Path, write: Write) -> None:
    teacher, student = write("big", "cost", {"flops": 4.1}), write("small", "cost", {"flops": 1.8, "ratio": 2.3})
    cells = [("--cell", "", row, "Ratio", "ratio", file) for row, file in (("Big", teacher), ("Small", student))]
    shape = ("--rows", "Big", "Small", "--columns", "Ratio")
    text = squeezed(written_table(tmp_path, *cells[0], *cells[1], *shape)["markdown"])
    assert "|Big|–|" in text  # noqa: RUF001
    assert "|Small|2.3|" in text
    with pytest.raises(UserError, match=r"big-cost.*: has no value 'ratio' for the column Ratio; it has flops"):
        written_table(tmp_path, *cells[0], *shape)
    with pytest.raises(UserError, match=r"big-cost.*: has no value 'ratio'"):
        written_table(tmp_path, *cells[1], teacher, *shape)


@pytest.mark.parametrize(("reported", "measured"), [("G", None), (None, "G"), ("M", "G")])
def test_refuses_to_compare_other_units(
    tmp_path: Path, write: Write, reported: str | None, measured: str | None
) -> None:
    paper = tmp_path / "paper.yaml"
    table = {"numbers": {"Ours": {"Cost": 1.8}}, **({"unit": reported} if reported else {})}
    paper.write_text(yaml.safe_dump({"tables": {"table-1": table}}))
    path = write("a", "cost", {"flops": 1.81}, units={"flops": measured} if measured else {})
    arguments = ("--cell", "", "Ours", "Cost", "", path, "--rows", "Ours", "--columns", "Cost", "--paper", paper)
    expected = rf"{path.name}: flops is in {measured or 'percent'}, .*Ours, Cost is in {reported or 'percent'}: "
    with pytest.raises(UserError, match=expected):
        written_table(tmp_path, *arguments)
    assert not (tmp_path / "tables").exists()


def test_units_and_findings_are_shown(tmp_path: Path, write: Write) -> None:
    fast, slow = (
        write(name, "speed", {"images_per_s": 99}, units={"images_per_s": "images/s"}, notes={"device": device})
        for name, device in (("a", "an H100"), ("b", "a CPU"))
    )
    written = written_table(
        tmp_path,
        *("--cell", "", "Ours", "Size", "", write("a", "cost", {"parameters": 11.17}, units={"parameters": "M"})),
        *("--cell", "", "More", "Size", "", write("b", "cost", {"parameters": 25.6}, units={"parameters": "M"})),
        *("--cell", "", "Ours", "Speed", "images_per_s", fast),
        *("--cell", "", "More", "Speed", "images_per_s", slow),
        *("--cell", "", "Ours", "Best", "", write("a", "layers", {"top1": 57.64}, notes={"best_layer": "conv4"})),
        *("--rows", "Ours", "More", "--columns", "Size", "Speed", "Best"),
    )["markdown"]
    assert "|Ours|11.2|99|57.6 [conv4]|" in squeezed(written)
    assert "- Size: parameters in M; the protocol of cost.\n" in written
    assert "- Speed: images_per_s in images/s; the protocol of speed; forward passes on an H100 and a CPU.\n" in written
    assert "**" not in written


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    values=st.lists(st.floats(0, 100), min_size=2, max_size=5), reported=st.floats(0, 100).map(lambda x: round(x, 1))
)
def test_numbers_are_numpys(tmp_path: Path, write: Write, values: list[float], reported: float) -> None:
    paper = tmp_path / "numbers.yaml"
    paper.write_text(yaml.safe_dump({"tables": {"table-1": {"numbers": {"Ours": {"NN": reported}}}}}))
    paths = [write(f"a{seed}", "knn", {"top1": value}, seed=seed) for seed, value in enumerate(values)]
    cell = ("--cell", "", "Ours", "NN", "", *paths)
    text = written_table(tmp_path, *cell, "--rows", "Ours", "--columns", "NN", "--paper", paper)["csv"]
    (row,) = csv.DictReader(io.StringIO(text))
    assert float(row["mean"]) == pytest.approx(np.mean(values), abs=1e-6)
    assert float(row["std"]) == pytest.approx(np.std(values, ddof=1), abs=1e-6)
    assert float(row["difference"]) == pytest.approx(np.mean(values) - reported, abs=1e-6)


def test_numbers_of_a_paper_are_read_whatever_their_form(paper: Path) -> None:
    assert read_reported(paper, "table-1").numbers[Place("", "Ours", "NN")] == Number(50.7, 0.3)
    assert read_reported(paper, "table-2").numbers[Place("B", "Only B", "1%")] == Number(12.5)


@pytest.mark.parametrize(
    "numbers",
    [
        {"Ours": 3},
        {"Ours": {"NN": "many"}},
        {"Ours": {"NN": {"value": 1, "x": 2}}},
        {"Ours": {"NN": {"value": "57"}}},
        {"Ours": {"NN": {"value": None}}},
        {"Ours": {"NN": {"value": 57, "deviation": "1"}}},
        {"Ours": {"NN": math.nan}},
        [1],
    ],
)
def test_refuses_numbers_of_another_form(tmp_path: Path, numbers: object) -> None:
    path = tmp_path / "paper.yaml"
    path.write_text(yaml.safe_dump({"tables": {"table-1": {"numbers": numbers}}}))
    with pytest.raises(UserError, match=r"paper\.yaml: the numbers of table-1 cannot be read"):
        read_reported(path, "table-1")


@pytest.mark.parametrize("text", ["[1, 2", "title: a paper", "tables: 3", ""])
def test_refuses_a_file_that_is_no_papers(tmp_path: Path, text: str) -> None:
    (tmp_path / "paper.yaml").write_text(text)
    with pytest.raises(UserError, match=r"paper\.yaml: the numbers of table-1 cannot be read"):
        read_reported(tmp_path / "paper.yaml", "table-1")


@pytest.mark.parametrize(
    ("n", "text"),
    [
        ({"train": 10, "val": 5, "train_skipped": 1}, ", 10 train and 5 val images (1 more left out)"),
        (
            {"train": 10, "val": 5, "train_skipped": 1, "val_skipped": 2},
            ", 10 train and 5 val images (3 more left out)",
        ),
        ({"train": 0, "val": 5}, ", 5 val images"),
        ({"train": 0, "val": 0}, ""),
    ],
)
def test_images_that_were_left_out_are_no_split(n: dict[str, int], text: str) -> None:
    assert images(n) == text


def test_refuses_an_unknown_table(paper: Path) -> None:
    with pytest.raises(UserError, match="unknown table 'table-3': did you mean 'table-2'"):
        read_reported(paper, "table-3")


def test_refuses_a_value_that_was_not_measured(tmp_path: Path, write: Write) -> None:
    path = write("a", "knn", {"top1": 1.0})
    before = set(tmp_path.rglob("*"))
    outputs = ("--markdown", tmp_path / "t.md", "--csv", tmp_path / "t.csv", "--latex", tmp_path / "t.tex")
    cell = ("--cell", "", "Ours", "NN", "top5", path, "--rows", "Ours", "--columns", "NN")
    done = program("write_table", *cell, *outputs)
    assert_refused(done, path, "'top5'", "column NN", "top1", folder=tmp_path, before=before)


def test_refuses_a_cell_without_a_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--cell"):
        written_table(tmp_path, "--cell", "", "Ours", "NN", "", "--rows", "Ours", "--columns", "NN")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ([], "--table takes a title, a Markdown and a CSV file, and figures"),
        (["a.md", "a.md"], "a.md: lacks some of the columns row, mean,"),
    ],
)
def test_a_page_of_other_files_is_refused_in_one_line(files: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("| a |\n")
    paths = [str(tmp_path / file) for file in files]
    done = program("results_page", "--table", "A", *paths, "--page", str(tmp_path / "page.md"))
    assert done.returncode
    assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "page.md").exists()


def test_the_page_has_tables_links_and_what_was_not_run(tmp_path: Path, table: dict[str, str]) -> None:
    results = tmp_path / "results"
    (results / "tables").mkdir(parents=True)
    (results / "tables/a.md").write_text(table["markdown"])
    (results / "tables/a.csv").write_text(table["csv"])
    (results / "tables/comparison.md").write_text("| everything |\n")
    results_page.main(
        [
            *(
                "--table",
                "50% | a\\b",
                *(str(results / file) for file in ("tables/a.md", "tables/a.csv", "figures/a.png")),
            ),
            *("--comparison", str(results / "tables/comparison.md"), str(results / "figures/clusters/b.png")),
            *("--page", str(results / "results.md")),
        ]
    )
    page = (results / "results.md").read_text()
    assert "|50% \\|a\\\\b|toy (100/20)|5|1|CC|" in squeezed(page)
    assert re.findall(r"!\[.*?\]\((.*?)\)", page) == ["figures/a.png", "figures/clusters/b.png"]
    assert page.index(table["markdown"]) < page.index("figures/a.png") < page.index("| everything |")


def test_the_page_names_a_dataset_once(tmp_path: Path) -> None:
    """Retrieval has no train images, and costs none at all: the counts are those of the other cells."""
    cells = [("scenes", 384, 240), ("birds", 0, 360), ("birds", 350, 360), ("birds", "", ""), ("scenes", 384, 240)]
    lines = [f"Ours,50.0,{dataset},{train},{val}" for dataset, train, val in [*cells, ("pets", 0, 20), ("voc", 5, 2)]]
    numbers = tmp_path / "a.csv"
    numbers.write_text("\n".join(["row,mean,dataset,n_train,n_val", *lines, "Ours,50.0,voc,8,2"]) + "\n")
    page = squeezed(results_page.overview([("A", [tmp_path / "a.md", numbers])]))
    assert "|A|scenes (384/240), birds (350/360), pets, voc (5/2, 8/2)|8|0||" in page
