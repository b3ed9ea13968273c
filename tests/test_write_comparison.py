"""The tables, against ones written out by hand."""

import csv
import dataclasses
import io
import itertools
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from stages import write_comparison
from stages.artifacts.metrics import Metrics, write_metrics
from stages.errors import UserError
from stages.tables import latex
from stages.tables.comparison import read_comparisons
from stages.tables.results import Cell
from tests.conftest import assert_refused, card, program

PROTOCOLS = {"linear": "40 epochs", "knn": "1-NN, cosine", "cluster-alignment": "10-means", "one_shot": "1-NN, 1-shot"}
VALUES = {"cluster-alignment": "ca"}

Write = Callable[..., Path]


def pretrained(method: str, seed: int = 0) -> dict[str, object]:
    return {"way": "pretrain", "method": method, "dataset": "toy", "seed": seed}


def distilled(method: str, teacher: str = "big", seed: int = 0, dataset: str = "toy") -> dict[str, object]:
    return {"way": "distill", "method": method, "dataset": dataset, "seed": seed, "teacher": teacher}


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a metrics file of ``value``; its name counts up."""
    count = itertools.count()

    def write(
        name: str,
        architecture: str,
        origin: Mapping[str, object],
        evaluation: str,
        value: float,
        std: float | None = None,
        **changes: Any,
    ) -> Path:
        path = tmp_path / "metrics" / f"{next(count)}-{name}-{evaluation}.json"
        value_name = VALUES.get(evaluation, "top1")
        metrics = Metrics(
            encoder=json.loads(card(name=name, architecture=architecture, origin=origin).to_json()),
            dataset="toy",
            evaluation=evaluation,
            protocol=PROTOCOLS[evaluation],
            values={value_name: value},
            deviations={} if std is None else {value_name: std},
            n={"train": 100, "val": 20},
            seeds=(0,) if std is None else (0, 1, 2, 3, 4),
            options={},
            wall_time_s=1.0,
        )
        write_metrics(path, dataclasses.replace(metrics, **changes))
        return path

    return write


@pytest.fixture
def small(write: Write) -> list[Path]:
    """A teacher, two references, two seeds of one method, one of another, and a second architecture half measured."""
    small_net = [
        write("sup", "small_net", pretrained("supervised"), "linear", 85.04),
        write("sup", "small_net", pretrained("supervised"), "knn", 75),
        write("raw", "small_net", pretrained("untrained"), "linear", 30),
        write("a0", "small_net", distilled("m_two", seed=0), "linear", 80),
        write("a1", "small_net", distilled("m_two", seed=1), "linear", 82),
        write("a0", "small_net", distilled("m_two", seed=0), "knn", 70),
        write("a1", "small_net", distilled("m_two", seed=1), "knn", 70),
        write("a0", "small_net", distilled("m_two", seed=0), "cluster-alignment", 60, 3),
        write("a1", "small_net", distilled("m_two", seed=1), "cluster-alignment", 64, 1),
        write("b", "small_net", distilled("m-one"), "linear", 81.04),
        write("b", "small_net", distilled("m-one"), "knn", 69.94),
        write("b", "small_net", distilled("m-one"), "cluster-alignment", 62.5, 1.5),
    ]
    teacher = [
        write("big", "resnet50", pretrained("simclr"), "cluster-alignment", 70.2, 2),
        write("big", "resnet50", pretrained("simclr"), "knn", 80),
        write("big", "resnet50", pretrained("simclr"), "linear", 90),
    ]
    return [*small_net, *teacher, write("c", "other", distilled("m-one"), "linear", 50)]


@pytest.fixture
def online(write: Write) -> list[Path]:
    """Two methods that train a teacher along, in two seeds each, and an encoder that one of them has taught since."""
    metrics = []
    for method, (student, teacher) in {"on": (60, 70), "on-7v": (64, 72)}.items():
        for seed in (0, 1):
            pair = f"wide--thin--{method}--seed{seed}"
            taught = {**distilled(method, f"{pair}--teacher", seed), "teacher_architecture": "wide"}
            teaches = {**pretrained(method, seed), "student_architecture": "thin"}
            metrics.append(write(pair, "thin", taught, "linear", student + 2 * seed))
            metrics.append(write(f"{pair}--teacher", "wide", teaches, "linear", teacher + 2 * seed))
    return [*metrics, write("later", "thin", distilled("off", "wide--thin--on--seed0--teacher"), "linear", 50)]


ONLINE = """\
| Teacher → student | wide trained along → thin | wide--thin--on--seed0--teacher (wide) → thin |
|-------------------|--------------------------:|---------------------------------------------:|
| Evaluation        |                    Linear |                                       Linear |
| Teacher           |                         – |                                         70.0 |
| Teacher of on     |                71.0 ± 1.4 |                                            – |
| Teacher of on-7v  |                73.0 ± 1.4 |                                            – |
| on                |                61.0 ± 1.4 |                                            – |
| on-7v             |            **65.0 ± 1.4** |                                            – |
| off               |                         – |                                     **50.0** |
"""  # noqa: RUF001


def test_students_whose_teachers_are_trained_along_stand_side_by_side(online: list[Path]) -> None:
    text = write_comparison.written_in_markdown(read_comparisons(online))
    assert text.startswith(ONLINE)
    assert "- Seeds: Teacher of on 0, 1; Teacher of on-7v 0, 1; on 0, 1; on-7v 0, 1; off 0.\n" in text


MARKDOWN = """\
| Teacher → student | big (resnet50) → small_net |                |                | big (resnet50) → other |      |            |
|-------------------|---------------------------:|---------------:|---------------:|-----------------------:|-----:|-----------:|
| Evaluation        |                     Linear |             NN |             CA |                 Linear |   NN |         CA |
| Teacher           |                       90.0 |           80.0 |     70.2 ± 2.0 |                   90.0 | 80.0 | 70.2 ± 2.0 |
| Supervised        |                       85.0 |           75.0 |              – |                      – |    – |          – |
| Untrained (floor) |                       30.0 |              – |              – |                      – |    – |          – |
| m_two             |             **81.0 ± 1.4** | **70.0 ± 0.0** |     62.0 ± 2.8 |                      – |    – |          – |
| m-one             |                   **81.0** |           69.9 | **62.5 ± 1.5** |               **50.0** |    – |          – |

- Dataset: toy, 100 train and 20 val images.
- Linear: top1 in percent; 40 epochs.
- NN: top1 in percent; 1-NN, cosine.
- CA: ca in percent; 10-means; mean of 5 repeats.
- Seeds: Supervised 0; Untrained (floor) 0; m_two 0, 1; m-one 0.
- ±: the sample standard deviation over the seeds of the encoder or, of a single encoder, over the repeats of the evaluation.
- Bold: the best distillation method of the column.
- –: not run.
"""  # noqa: E501, RUF001

LATEX = r"""% \usepackage{booktabs}
\begin{table}
\centering
\caption{toy}
\begin{tabular}{lrr}
\toprule
Teacher $\to$ student & \multicolumn{1}{c}{big (resnet50) $\to$ small\_net} & \multicolumn{1}{c}{big (resnet50) $\to$ other} \\
\cmidrule(lr){2-2}\cmidrule(lr){3-3}
 & one\_shot & one\_shot \\
\midrule
Teacher & 40.0 $\pm$ 2.0 & 40.0 $\pm$ 2.0 \\
\midrule
m\_two & \textbf{30.0} & -- \\
m\textasciicircum{}3\#\$\&\textbackslash{}\{\} & 29.0 & \textbf{28.0} \\
\bottomrule
\end{tabular}

\medskip
\begin{tabular}{lr}
\toprule
Other encoders & one\_shot \\
\midrule
by\_itself (alexnet) & 10.0 \\
\bottomrule
\end{tabular}

\smallskip
\begin{minipage}{\linewidth}\footnotesize
Dataset: toy, 100 train and 20 val images.\par
one\_shot: top1 in percent; 1-NN, 1-shot; mean of 1 to 5 repeats.\par
Seeds: m\_two 0; m\textasciicircum{}3\#\$\&\textbackslash{}\{\} 0.\par
$\pm$: the sample standard deviation over the seeds of the encoder or, of a single encoder, over the repeats of the evaluation.\par
Bold: the best distillation method of the column.\par
--: not run.
\end{minipage}
\end{table}
"""  # noqa: E501


def written_comparison(folder: Path, metrics: list[Path]) -> dict[str, str]:
    """The three tables, by the kind of file."""
    outputs = {kind: folder / f"tables/table.{kind}" for kind in ("markdown", "csv", "latex")}
    flags = [part for kind, path in outputs.items() for part in (f"--{kind}", str(path))]
    write_comparison.main(["--metrics", *map(str, metrics), *flags])
    return {kind: path.read_text() for kind, path in outputs.items()}


def cells(markdown: str, label: str) -> list[str]:
    """The cells of the one row called ``label``."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in markdown.splitlines() if line[:1] == "|"]
    (row,) = [row for row in rows if row[0] == label]
    return row[1:]


def test_markdown_by_hand(tmp_path: Path, small: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    written = written_comparison(tmp_path, small)["markdown"]
    assert written == MARKDOWN
    assert capsys.readouterr().out == written


def test_csv_by_hand(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("big", "resnet50", pretrained("simclr"), "linear", 90.0, values={"top1": 90.0, "top1_best_epoch": 91.5}),
        write("a0", "small", distilled("two", seed=0), "cluster-alignment", 60, 3),
        write("a1", "small", distilled("two", seed=1), "cluster-alignment", 64.0000004, 1),
        write("sup", "small", pretrained("supervised"), "cluster-alignment", 60.125, 3.25),
        write("alone", "alexnet", {"way": "fetch", "method": "moco-v2"}, "linear", 45.7),
    ]
    assert written_comparison(tmp_path, metrics)["csv"] == (
        "dataset,teacher,teacher_architecture,student_architecture,row,evaluation,value,unit,mean,std,seeds,repeats,"
        "n_train,n_val,protocol,encoders\n"
        "toy,big,resnet50,small,Teacher,linear,top1,percent,90.0,,0,1,100,20,40 epochs,big\n"
        "toy,,,alexnet,alone,linear,top1,percent,45.7,,,1,100,20,40 epochs,alone\n"
        "toy,big,resnet50,small,Teacher,linear,top1_best_epoch,percent,91.5,,0,1,100,20,40 epochs,big\n"
        "toy,big,resnet50,small,Supervised,cluster-alignment,ca,percent,60.125,3.25,0,5,100,20,10-means,sup\n"
        "toy,big,resnet50,small,two,cluster-alignment,ca,percent,62.0,2.828427,0 1,5,100,20,10-means,a0 a1\n"
    )


def test_csv_loses_no_value(tmp_path: Path, write: Write) -> None:
    values = {"ca": 1.0, "ca_train": 2.0, "nmi": 3.0, "ari": 4.0, "clustering_accuracy": 5.0}
    student = write("a", "small", distilled("two"), "cluster-alignment", 0, values=values, deviations={})
    rows = list(csv.DictReader(io.StringIO(written_comparison(tmp_path, [student])["csv"])))
    assert {row["value"]: float(row["mean"]) for row in rows} == values


def test_latex_by_hand(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("a", "small_net", distilled("m_two"), "one_shot", 30),
        write("b", "small_net", distilled("m^3#$&\\{}"), "one_shot", 29),
        write("c", "other", distilled("m^3#$&\\{}"), "one_shot", 28),
        write("big", "resnet50", pretrained("simclr"), "one_shot", 40, 2),
        write("by_itself", "alexnet", pretrained("byol"), "one_shot", 10),
    ]
    assert written_comparison(tmp_path, metrics)["latex"] == LATEX


def test_latex_does_not_take_a_label_for_an_option() -> None:
    assert latex.escaped("[43] a|b") == "{[}43] a$|$b"


@pytest.mark.parametrize(
    ("value", "expected"), [(0.0371, "0.0371"), (99.96, "100"), (999.4, "999"), (999.96, "1,000"), (1234.5, "1,234")]
)
def test_what_has_a_unit_has_three_digits(value: float, expected: str) -> None:
    assert Cell(value, None, (0,), 1, (), "M").shown(value) == expected


def test_latex_is_well_formed(tmp_path: Path, small: list[Path], write: Write) -> None:
    """Environments and braces close, and each line of a tabular fills its columns."""
    text = written_comparison(tmp_path, [*small, write("d", "x_y", distilled("m", "no_metrics"), "one_shot", 1)])[
        "latex"
    ]
    opened: list[str] = []
    for end, name in re.findall(r"\\(begin|end)\{(\w+)\}", text):
        if end == "begin":
            opened.append(name)
        else:
            assert opened.pop() == name
    assert not opened
    assert len(re.findall(r"(?<!\\)\{", text)) == len(re.findall(r"(?<!\\)\}", text))
    assert not re.search(r"(?<!\\)_", text)
    assert text.isascii()
    (tabular,) = re.findall(r"\\begin\{tabular\}\{(l+r+)\}(.*?)\\end\{tabular\}", text, re.DOTALL)
    rows = [line for line in tabular[1].splitlines() if line.endswith("\\\\")]
    assert len(rows) == 8
    for row in rows:
        spanned = sum(int(span) - 1 for span in re.findall(r"\\multicolumn\{(\d+)\}", row))
        assert row.count("&") + spanned + 1 == len(tabular[0])


def test_rows_follow_the_command_line(tmp_path: Path, write: Write) -> None:
    methods = ["zeta", "alpha", "mu"]
    students = [write(f"s-{name}", "small", distilled(name), "knn", 50) for name in methods]
    raw = write("raw", "small", pretrained("untrained"), "knn", 10)
    supervised = write("sup", "small", pretrained("supervised"), "knn", 60)
    teacher = write("big", "large", pretrained("simclr"), "knn", 70)
    first_cells = r"^\| ([^|]*?) *\|"
    for order in (students, students[::-1]):
        text = written_comparison(tmp_path, [*order, raw, supervised, teacher])["markdown"]
        labels = re.findall(first_cells, text, re.MULTILINE)[2:]
        named = [path.stem.split("-")[2] for path in order]
        assert labels == ["Teacher", "Supervised", "Untrained (floor)", *named]


def test_groups_of_a_teacher_stay_together(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("a", "tiny", distilled("m", "first"), "knn", 1),
        write("b", "tiny", distilled("m", "second"), "knn", 2),
        write("c", "small", distilled("m", "first"), "knn", 3),
        write("second", "huge", pretrained("simclr"), "knn", 4),
    ]
    text = written_comparison(tmp_path, metrics)["markdown"]
    assert cells(text, "Teacher → student") == ["first → tiny", "first → small", "second (huge) → tiny"]
    assert cells(text, "m") == ["**1.0**", "**3.0**", "**2.0**"]
    assert cells(text, "Teacher") == ["–", "–", "4.0"]  # noqa: RUF001


def test_evaluations_come_in_the_papers_order(tmp_path: Path, write: Write) -> None:
    names = ["one_shot", "cluster-alignment", "knn", "linear"]
    metrics = [write("a", "tiny", distilled("m"), name, 10 * place) for place, name in enumerate(names)]
    text = written_comparison(tmp_path, metrics)["markdown"]
    assert cells(text, "Evaluation") == ["Linear", "NN", "CA", "one_shot"]
    assert cells(text, "m") == ["**30.0**", "**20.0**", "**10.0**", "**0.0**"]


def test_a_student_can_be_a_teacher(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("middle", "medium", distilled("m", "big"), "knn", 60),
        write("last", "tiny", distilled("m", "middle"), "knn", 50),
    ]
    text = written_comparison(tmp_path, metrics)["markdown"]
    assert cells(text, "Teacher → student") == ["big → medium", "middle (medium) → tiny"]
    assert cells(text, "Teacher") == ["–", "60.0"]  # noqa: RUF001
    assert cells(text, "m") == ["**60.0**", "**50.0**"]
    assert "Other encoders" not in text


def test_a_supervised_encoder_can_be_the_teacher(tmp_path: Path, write: Write) -> None:
    teacher = write("big", "same", pretrained("supervised"), "knn", 60)
    text = written_comparison(tmp_path, [teacher, write("a", "same", distilled("m"), "knn", 50)])["markdown"]
    assert cells(text, "Teacher") == cells(text, "Supervised") == ["60.0"]


def test_references_are_never_bold(tmp_path: Path, write: Write) -> None:
    references = [
        write("big", "huge", pretrained("simclr"), "knn", 50),
        write("sup", "tiny", pretrained("supervised"), "knn", 50),
        write("raw", "tiny", pretrained("untrained"), "knn", 50),
    ]
    text = written_comparison(tmp_path, [*references, write("a", "tiny", distilled("m"), "knn", 50)])["markdown"]
    assert cells(text, "m") == ["**50.0**"]
    for label in ("Teacher", "Supervised", "Untrained (floor)"):
        assert cells(text, label) == ["50.0"]


def test_seeds_that_differ_between_cells_are_told(tmp_path: Path, write: Write) -> None:
    metrics = [write(f"a{seed}", "tiny", distilled("m", seed=seed), "knn", seed) for seed in (0, 1, 7)]
    metrics += [write(f"a{seed}", "tiny", distilled("m", seed=seed), "linear", seed) for seed in (0, 1)]
    metrics += [write(f"a{seed}", "tiny", distilled("m", seed=seed), "one_shot", seed) for seed in (0, 1)]
    text = written_comparison(tmp_path, metrics)["markdown"]
    assert "- Seeds: m 0, 1 (but 0, 1, 7 in big → tiny NN).\n" in text
    # 0, 1 and 7: their mean is 8/3, their squared distances from it 64/9, 25/9 and 169/9, half the sum 43/3.
    assert cells(text, "m") == ["**0.5 ± 0.7**", "**2.7 ± 3.8**", "**0.5 ± 0.7**"]


def test_students_of_other_training_data_have_their_own_row(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("a", "tiny", distilled("m"), "knn", 1),
        write("b", "tiny", distilled("m", dataset="more"), "knn", 2),
    ]
    text = written_comparison(tmp_path, metrics)["markdown"]
    assert cells(text, "m (trained on toy)") == ["1.0"]
    assert cells(text, "m (trained on more)") == ["**2.0**"]


def test_each_dataset_has_its_table(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("a", "tiny", distilled("m"), "knn", 1),
        write("a", "tiny", distilled("m"), "knn", 2, dataset="cars", n={"train": 7, "val": 3}),
        write("big", "huge", pretrained("simclr"), "knn", 3, dataset="cars", n={"train": 7, "val": 3}),
    ]
    written = written_comparison(tmp_path, metrics)
    first, second = written["markdown"].split("### cars")
    assert first.startswith("### toy")
    assert (cells(first, "m"), cells(second, "m")) == (["**1.0**"], ["**2.0**"])
    assert "100 train and 20 val images" in first
    assert "7 train and 3 val images" in second
    # The teacher's architecture is known from the other dataset, its numbers are not.
    assert cells(first, "Teacher → student") == cells(second, "Teacher → student") == ["big (huge) → tiny"]
    assert not re.search(r"^\| Teacher +\|", first, re.MULTILINE)
    assert written["latex"].count("\\begin{table}") == 2


def test_encoders_outside_any_group_are_not_lost(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("alone", "alexnet", pretrained("byol"), "knn", 40),
        write("sup", "vgg", pretrained("supervised"), "linear", 50),
    ]
    text = written_comparison(tmp_path, metrics)["markdown"]
    assert cells(text, "Encoder") == ["Linear", "NN"]
    assert cells(text, "alone (alexnet)") == ["–", "40.0"]  # noqa: RUF001
    assert cells(text, "sup (vgg)") == ["50.0", "–"]  # noqa: RUF001
    with_student = written_comparison(tmp_path, [*metrics, write("a", "alexnet", distilled("m"), "knn", 1)])["markdown"]
    assert cells(with_student, "Other encoders") == ["Linear", "NN"]
    assert cells(with_student, "alone (alexnet)") == ["–", "40.0"]  # noqa: RUF001


def test_images_that_differ_between_evaluations_are_told_with_each(tmp_path: Path, write: Write) -> None:
    metrics = [
        write("a", "tiny", distilled("m"), "knn", 1),
        write("a", "tiny", distilled("m"), "linear", 2, n={"train": 10, "val": 20}),
    ]
    text = written_comparison(tmp_path, metrics)["markdown"]
    assert "- Dataset: toy.\n" in text
    assert "- Linear: top1 in percent; 40 epochs; 10 train and 20 val images.\n" in text
    assert "- NN: top1 in percent; 1-NN, cosine; 100 train and 20 val images.\n" in text


def test_what_has_units_has_a_table_of_its_own(tmp_path: Path, write: Write) -> None:
    units = {"parameters": "M", "images_per_s": "images/s", "ratio": ""}
    values = {"parameters": 11.1765, "images_per_s": 1234.5, "ratio": 2.0}
    cost = {"values": values, "units": units, "n": {"train": 0, "val": 0}, "protocol": "of the backbone"}
    here, there = ({**cost, "notes": {"device": device}} for device in ("an H100", "2 threads"))
    metrics = [
        write("a", "tiny", distilled("m"), "knn", 1),
        write("a", "tiny", distilled("m"), "linear", 0, **here),
        write("b", "tiny", distilled("other"), "linear", 0, **here),
        write("alone", "huge", pretrained("byol"), "linear", 0, **there),
    ]
    written = written_comparison(tmp_path, metrics)
    text = written["markdown"]
    assert cells(text, "Evaluation") == ["NN"]
    assert "Other encoders" not in text
    assert cells(text, "linear") == ["parameters (M)", "images_per_s (images/s)", "ratio"]
    assert cells(text, "a (tiny)") == cells(text, "alone (huge)") == ["11.2", "1,234", "2"]
    assert "- Dataset: toy, 100 train and 20 val images.\n" in text
    assert "- Linear: of the backbone; forward passes on an H100 and 2 threads.\n" in text
    assert "toy,big,,tiny,m,linear,parameters,M,11.1765" in written["csv"]


def test_refuses_no_metrics() -> None:
    with pytest.raises(UserError, match="no metrics"):
        read_comparisons([])


def test_refuses_one_measurement_twice(tmp_path: Path, write: Write) -> None:
    metrics = [write("a", "tiny", distilled("m"), "knn", value) for value in (1, 2)]
    before = set(tmp_path.rglob("*"))
    flags = ("--markdown", tmp_path / "t.md", "--csv", tmp_path / "t.csv", "--latex", tmp_path / "t.tex")
    done = program("write_comparison", "--metrics", *metrics, *flags)
    assert_refused(done, *metrics, "knn of a on toy", folder=tmp_path, before=before)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"origin": distilled("m", seed=0)}, "seed 0"),
        ({"protocol": "10-NN"}, "differ in protocol"),
        ({"n": {"train": 1, "val": 20}}, "differ in n"),
        ({"name": "a"}, "different encoders of one name, a"),
        ({"values": {"top1": float("nan")}}, "top1 is nan"),
        ({"values": {}}, "holds no values"),
    ],
)
def test_refuses_what_cannot_stand_in_one_table(write: Write, change: dict[str, Any], expected: str) -> None:
    first = write("a", "tiny", distilled("m", seed=0), "knn", 1)
    place = {
        "name": "b",
        "origin": distilled("m", seed=1),
        **{k: change.pop(k) for k in ("name", "origin") & change.keys()},
    }
    second = write(place["name"], "tiny", place["origin"], "knn", 2, **change)
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        read_comparisons([first, second])
    assert str(second) in str(caught.value)


def test_seeds_of_one_method_are_accepted(write: Write) -> None:
    """The pair that every refusal above is one change away from."""
    pair = [write(name, "tiny", distilled("m", seed=seed), "knn", seed) for seed, name in enumerate("ab")]
    (comparison,) = read_comparisons(pair)
    cell = comparison.cell(comparison.groups[0], comparison.rows[0], "knn")
    assert cell is not None
    assert (cell.mean, cell.seeds) == (0.5, (0, 1))


def test_encoders_that_were_measured_more_or_less_often_have_their_own_deviation_and_the_fewest_repeats(
    write: Write,
) -> None:
    pair = [
        write("a", "tiny", distilled("m", seed=0), "knn", 1, 9),
        write("b", "tiny", distilled("m", seed=1), "knn", 3),
    ]
    (comparison,) = read_comparisons(pair)
    cell = comparison.cell(comparison.groups[0], comparison.rows[0], "knn")
    assert cell is not None
    assert (cell.mean, cell.std, cell.repeats) == (2, pytest.approx(2**0.5), 1)
