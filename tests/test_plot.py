"""The figures, by their pixels and by what they choose to show."""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from matplotlib.text import Text
from numpy.typing import NDArray
from PIL import Image, ImageColor

from stages import plot
from stages.artifacts.assignments import Assignments, read_assignments, write_assignments
from stages.artifacts.metrics import Metrics, write_metrics
from stages.datasets.packed import PackedImages, read_pack, write_packs
from stages.datasets.sources import Split
from stages.errors import UserError
from stages.figures import bars, clusters, curves, lines
from stages.figures.style import OKABE_ITO, drawing
from stages.figures.text import broken
from stages.tables.comparison import read_comparisons
from stages.tables.results import Cell
from stages.write_table import CSV_COLUMNS
from tests.conftest import assert_refused, card, program

HEADER = "epoch,loss,learning_rate,images_per_second,waiting_share"
BLUE, ORANGE, GREEN = OKABE_ITO[:3]
Write = Callable[..., Path]


def pixels(path: Path) -> NDArray[np.uint8]:
    """The figure as [H, W, 3]."""
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))


def where(picture: NDArray[np.uint8], colour: str) -> NDArray[np.bool_]:
    """Which pixels [H, W] have exactly this colour."""
    found: NDArray[np.bool_] = (picture == ImageColor.getrgb(colour)).all(axis=2)
    return found


def highest(picture: NDArray[np.uint8], colour: str) -> tuple[slice, slice]:
    """The rows and columns of the highest bar of this colour: of the longest unbroken column, and those beside it."""
    found = where(picture, colour)
    run = np.zeros(found.shape, dtype=int)
    for row in range(len(found)):
        run[row] = (run[row - 1] + 1) * found[row]
    bottom, column = np.unravel_index(np.argmax(run), run.shape)
    left = right = int(column)
    while found[bottom, left - 1]:
        left -= 1
    while found[bottom, right + 1]:
        right += 1
    return slice(int(bottom - run[bottom, column] + 1), int(bottom + 1)), slice(left, right + 1)


def height(picture: NDArray[np.uint8], colour: str) -> int:
    rows, _ = highest(picture, colour)
    return rows.stop - rows.start


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a metrics file of ``value``."""
    count = itertools.count()

    def write(
        name: str,
        architecture: str,
        origin: Mapping[str, object],
        value: float,
        std: float | None = None,
        evaluation: str = "knn",
    ) -> Path:
        path = tmp_path / "metrics" / f"{next(count)}.json"
        encoder = json.loads(card(name=name, architecture=architecture, origin={"seed": 0, **origin}).to_json())
        values, deviations = {"top1": value}, {} if std is None else {"top1": std}
        images = {"train": 100, "val": 20}
        write_metrics(path, Metrics(encoder, "toy", evaluation, "", values, deviations, images, (0,), {}, 1.0))
        return path

    return write


def student(write: Write, architecture: str, method: str, value: float, teacher: str = "big", **more: Any) -> Path:
    name = f"{teacher}-{architecture}-{method}"
    return write(name, architecture, {"way": "distill", "method": method, "teacher": teacher}, value, **more)


def cell(mean: float, std: float | None = None) -> Cell:
    return Cell(mean, std, (0,), 1, ())


@pytest.mark.parametrize("architectures", [["one"], ["one", "two", "three"]])
@pytest.mark.parametrize("evaluations", [["knn"], ["linear", "knn", "one-shot"]])
def test_bars_of_any_number_of_architectures_and_evaluations(
    tmp_path: Path, write: Write, architectures: list[str], evaluations: list[str]
) -> None:
    metrics = [
        student(write, architecture, method, value, evaluation=evaluation)
        for architecture in architectures
        for method, value in (("first", 60), ("second", 30))
        for evaluation in evaluations
    ]
    figure = tmp_path / "bars.png"
    plot.main(["bars", "--metrics", *map(str, metrics), "--figure", str(figure)])
    picture = pixels(figure)
    lines = {1: 1, 3: 2}[len(evaluations)]
    assert picture.shape == (round(150 * (2.7 * lines + 0.22 * 3)), 1350, 3)
    assert height(picture, BLUE) == pytest.approx(2 * height(picture, ORANGE), abs=3)
    assert not where(picture, GREEN).any()
    # Along the foot of the highest bar: a run of pixels for each of the method's bars in this line of panels.
    foot = where(picture, ORANGE)[highest(picture, ORANGE)[0].stop - 3]
    assert np.count_nonzero(np.diff(foot.astype(int)) == 1) == len(architectures) * min(len(evaluations), 2)


def test_bars_leave_room_for_what_was_not_measured(write: Write) -> None:
    metrics = [
        write("big", "huge", {"way": "pretrain", "method": "simclr"}, 80),
        write("sup", "tiny", {"way": "pretrain", "method": "supervised"}, 70, evaluation="linear"),
        student(write, "tiny", "first", 50, evaluation="linear"),
        student(write, "tiny", "second", 60),
        student(write, "small", "second", 40, std=2),
    ]
    (comparison,) = read_comparisons(metrics)
    tiny, small = bars.groups_of(comparison, "knn")
    assert (tiny.name, small.name) == ("tiny", "small")
    assert [label for label, _ in tiny.bars] == ["Teacher", "Supervised", "first", "second"]
    assert [found.mean if found else None for _, found in tiny.bars] == [80, None, None, 60]
    assert [(label, str(found)) for label, found in small.bars] == [("Teacher", "80.0"), ("second", "40.0 ± 2.0")]


def test_a_group_of_which_nothing_was_measured_is_left_out_of_its_panel(tmp_path: Path, write: Write) -> None:
    """Its place is for the others, whose bars are wider then."""
    metrics = [student(write, architecture, "m", 50) for architecture in ("tiny", "small")]
    both, one = tmp_path / "both.png", tmp_path / "one.png"
    alone = [student(write, "tiny", "m", 50, evaluation="linear"), *metrics]
    bars.draw([*alone, student(write, "small", "m", 50, evaluation="linear")], both)
    bars.draw(alone, one)
    runs = [np.count_nonzero(np.diff(where(pixels(path), BLUE).any(axis=0).astype(int)) == 1) for path in (both, one)]
    assert runs == [2 + 2 + 1, 1 + 2 + 1]  # with one in the legend


@pytest.mark.parametrize(
    ("names", "middles", "expected"),
    [
        (["short", "short"], [1, 2], set()),
        (["an-architecture-of-a-long-name", "short"], [2, 3], {0, 1}),
        (["an-architecture-of-a-long-name", "short", "short"], [2, 4, 5], set()),
        (["an-architecture\nof-a-long-name", "a\nb"], [1, 2], set()),
        (["an-architecture-of-a-long-name", "short"], [1, 4], {0}),
        (["short", "short"], [4, 5.9], {1}),
        (["one", ""], [1, 2], set()),
    ],
)
def test_names_do_not_fit_if_they_meet_or_pass_an_end(
    names: list[str], middles: list[float], expected: set[int]
) -> None:
    assert bars.misfits(names, middles, inches=6, size=10) == expected


@pytest.mark.parametrize(
    ("characters", "expected"),
    [
        (40, "sup-teacher--r18_x0.25--seed0 →\nv3"),
        (29, "sup-teacher--r18_x0.25--\nseed0 →\nv3"),
        (20, "sup-teacher--\nr18_x0.25--seed0 →\nv3"),
        (10, "sup-\nteacher--\nr18_\nx0.25--\nseed0 →\nv3"),
    ],
)
def test_names_are_broken_where_their_parts_are_joined(characters: int, expected: str) -> None:
    assert broken("sup-teacher--r18_x0.25--seed0 →\nv3", characters) == expected


def drawn_texts(kind: ModuleType, draw: Callable[[], None]) -> tuple[Any, list[Any]]:
    """The figure that ``draw`` writes by this module, and all texts in it, none of them cut or on another."""
    figures = []

    @contextlib.contextmanager
    def kept(*arguments: Any, **options: Any) -> Iterator[Any]:
        with drawing(*arguments, **options) as figure:
            figures.append(figure)
            yield figure

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kind, "drawing", kept)
        draw()
    (figure,) = figures
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    boxes = [text.get_window_extent() for text in texts]
    for text, box in zip(texts, boxes, strict=True):
        assert 0 <= box.x0 < box.x1 <= figure.bbox.x1, text
        assert 0 <= box.y0 < box.y1 <= figure.bbox.y1, text
    placed = list(zip(texts, boxes, strict=True))
    assert not [(one, other) for (one, a), (other, b) in itertools.combinations(placed, 2) if a.overlaps(b)]
    return figure, texts


LONG = "sup-teacher--resnet18_x0.25--q128--seed0 →\nmobilenet_v3_small"


@pytest.mark.parametrize("panels", [1, 2, 9])
@pytest.mark.parametrize("names", [[LONG], ["sup-teacher →\nresnet18_x0.25", "tiny", LONG], [LONG] * 12])
def test_no_text_is_cut_or_on_another(tmp_path: Path, panels: int, names: list[str]) -> None:
    """Numbers, names, titles and the axes' labels are whole, however long they are and however many the panels."""
    looks = bars.coloured(["first", "second", "a-method-of-a-name-as-long-as-a-line-" * 4])
    groups = [
        bars.Group(name, tuple((look, cell(99 - place, 3.0)) for place, look in enumerate(looks))) for name in names
    ]
    label, title = "top1@compress,10% of all labels, %", "a-dataset-of-a-long-name: linear on a tenth of its labels"
    shown = [bars.Panel(title, label, groups)] * panels
    figure, texts = drawn_texts(bars, lambda: bars.draw_panels(shown, looks, tmp_path / "bars.png"))
    assert len(texts) > panels * len(names) * 4
    assert all(axis.get_window_extent().height >= 150 * 1.89 for axis in figure.axes)


@pytest.mark.parametrize("rows", [1, 4, 9])
def test_no_text_of_lines_is_cut_or_on_another(tmp_path: Path, rows: int) -> None:
    table = tmp_path / "a.csv"
    with table.open("w", newline="") as file:
        writer = csv.DictWriter(file, CSV_COLUMNS, restval="", extrasaction="ignore")
        writer.writeheader()
        for group, row, column in itertools.product((50, 100, 1000), range(rows), ("NN", f"{LONG} at one per cent")):
            name = f"teacher--mobilenet_v2--compress-2q-small-{row}"
            facts = {"value": "top1", "unit": "percent", "mean": row + group, "std": 1}
            writer.writerow({"group": group, "row": name, "column": column, **facts})
    _, texts = drawn_texts(lines, lambda: lines.draw(table, "groups", [], "epochs", "", tmp_path / "a.png"))
    assert len([text for text in texts if "compress-2q" in text.get_text()]) == rows


def test_a_long_title_of_clusters_is_whole(tmp_path: Path, clustered: dict[str, Path]) -> None:
    found = read_assignments(clustered["assignments"])
    named = dataclasses.replace(
        found, card=card(name="teacher--efficientnet_b0--cluster-classification-of-much-and-more--seed0")
    )
    write_assignments(clustered["assignments"], named)
    _, texts = drawn_texts(clusters, lambda: draw_clusters(clustered, tmp_path / "c.png"))
    (title,) = [text.get_text() for text in texts if "random images" in text.get_text()]
    assert title.count("\n") == 1


def test_a_bar_below_zero_goes_down_from_it(tmp_path: Path) -> None:
    groups = [bars.Group("", (("first", cell(-40)), ("second", cell(60))))]
    looks = bars.coloured(["first", "second"])
    bars.draw_panels([bars.Panel("", "", groups)], looks, tmp_path / "bars.png")
    picture = pixels(tmp_path / "bars.png")
    (down, _), (up, _) = highest(picture, BLUE), highest(picture, ORANGE)
    assert down.start == pytest.approx(up.stop, abs=3)
    assert (down.stop - down.start) / (up.stop - up.start) == pytest.approx(40 / 60, abs=0.05)


def test_a_bar_is_not_as_wide_as_its_panel(tmp_path: Path) -> None:
    looks = bars.coloured(["first"])
    bars.draw_panels([bars.Panel("", "", [bars.Group("", (("first", cell(50)),))])], looks, tmp_path / "bars.png")
    _, columns = highest(pixels(tmp_path / "bars.png"), BLUE)
    assert 50 < columns.stop - columns.start < 100


def test_bars_name_the_teacher_where_there_are_two(write: Write) -> None:
    metrics = [student(write, "tiny", "m", 50, teacher) for teacher in ("big", "wide")]
    (comparison,) = read_comparisons(metrics)
    assert [group.name for group in bars.groups_of(comparison, "knn")] == ["big →\ntiny", "wide →\ntiny"]


def test_bars_of_many_methods_all_look_different(write: Write) -> None:
    metrics = [student(write, "tiny", f"method {index}", 50) for index in range(14)]
    looks = bars.looks_of(read_comparisons([*metrics, write("big", "huge", {"way": "fetch", "method": "byol"}, 9)]))
    assert len(looks) == 15
    assert len({json.dumps(look, sort_keys=True) for look in looks.values()}) == 15


def test_references_of_one_kind_look_different() -> None:
    looks = bars.greyed({**{f"Teacher of {method}": "teacher" for method in range(8)}, "Supervised": "supervised"})
    assert looks["Teacher of 0"] == bars.REFERENCES["teacher"]
    assert len({json.dumps(look, sort_keys=True) for look in looks.values()}) == 9
    assert OKABE_ITO[0] not in {look["facecolor"] for look in looks.values()}


def test_bars_of_encoders_without_students(tmp_path: Path, write: Write) -> None:
    metrics = [
        write(name, "huge", {"way": "fetch", "method": "byol"}, 30 * (1 + place)) for place, name in enumerate("ab")
    ]
    plot.main(["bars", "--metrics", *map(str, metrics), "--figure", str(tmp_path / "bars.png")])
    picture = pixels(tmp_path / "bars.png")
    assert height(picture, ORANGE) == pytest.approx(2 * height(picture, BLUE), abs=3)


def test_bars_skip_an_evaluation_of_other_encoders_only(tmp_path: Path, write: Write) -> None:
    other = write("other", "wide", {"way": "fetch", "method": "byol"}, 30, evaluation="linear")
    metrics = [student(write, "tiny", "m", 50), other]
    plot.main(["bars", "--metrics", *map(str, metrics), "--figure", str(tmp_path / "bars.png")])
    assert pixels(tmp_path / "bars.png").shape[0] == round(150 * (2.7 + 0.22 * 3))


def test_error_bars_are_drawn(tmp_path: Path, write: Write) -> None:
    """The same bar with and without a deviation: what is inside the bar and has another colour is the error bar."""
    inside = []
    for std in (None, 10.0):
        figure = tmp_path / f"{std}.png"
        plot.main(["bars", "--metrics", str(student(write, f"tiny-{std}", "m", 50, std=std)), "--figure", str(figure)])
        picture = pixels(figure)
        rows, columns = highest(picture, BLUE)
        bar = where(picture, BLUE)[rows, columns]
        inside.append(np.count_nonzero(~bar.all(axis=1)) / len(bar))
    # The axis is from 30, the bar to 50, the error down to 40.
    assert inside == [0, pytest.approx(0.5, abs=0.02)]


@pytest.mark.parametrize(
    ("cells", "expected"),
    [
        ([cell(10), cell(90)], (0, 90)),  # far apart: from zero
        ([cell(88), cell(98)], (80, 98)),  # close: from the ten below the lowest
        ([cell(81), cell(98)], (70, 98)),  # 80 would leave almost nothing of the lowest
        ([cell(88, 10), cell(98, 3)], (70, 101)),  # the error bars are in the picture
        ([cell(95)], (90, 95)),
        ([cell(0)], (0, 1)),
        ([cell(0.01), cell(0.04)], (0, 0.04)),  # small units fill the axis
        ([cell(2, 3), cell(50)], (0, 50)),  # nothing is below zero
        ([cell(-0.4, 0.1), cell(2)], (-0.5, 2)),  # a correlation may be
        ([cell(-3)], (-3, 1)),
    ],
)
def test_the_axis_starts_at_a_ten_below_all_bars(cells: Sequence[Cell], expected: tuple[float, float]) -> None:
    assert bars.limits(cells) == expected


@pytest.fixture
def history(tmp_path: Path) -> Callable[..., Path]:
    """Writes a history of these losses."""

    def history(name: str, losses: Sequence[float]) -> Path:
        path = tmp_path / f"{name}.csv"
        rows = [f"{epoch},{loss},0.1,100.0,0.0" for epoch, loss in enumerate(losses, start=1)]
        path.write_text("\n".join([HEADER, *rows]) + "\n")
        return path

    return history


@pytest.mark.parametrize(("trained", "lines"), [(1, 1), (3, 1), (4, 2)])
def test_a_curve_for_each_encoder(tmp_path: Path, history: Callable[..., Path], trained: int, lines: int) -> None:
    names = [f"name-{index}" for index in range(trained)]
    paths = [history(name, [4, 2, 1]) for name in names]
    plot.main(["curves", "--histories", *map(str, paths), "--names", *names, "--figure", str(tmp_path / "c.png")])
    picture = pixels(tmp_path / "c.png")
    assert picture.shape == (round(150 * (1.9 * lines + 2.5 * 0.2)), 1350, 3)
    # The curves of the first line of panels: separate runs of columns, each falling from left to right.
    blue = where(picture, BLUE)[: round(150 * 1.9)]
    drawn = np.flatnonzero(np.diff(blue.any(axis=0).astype(int), prepend=0, append=0))
    starts, ends = drawn[::2], drawn[1::2]
    long = [(start, end) for start, end in zip(starts, ends, strict=True) if end - start > 50]
    assert len(long) == min(trained, 3)
    for start, end in long:
        assert np.flatnonzero(blue[:, start + 2])[0] < np.flatnonzero(blue[:, end - 3])[-1]


def test_an_untrained_encoder_is_named_under_the_figure(tmp_path: Path, history: Callable[..., Path]) -> None:
    paths, names = [history("a", [2, 1]), history("b", [])], ["a", "b"]
    curves.draw(paths[:1], names[:1], tmp_path / "one.png")
    curves.draw(paths, names, tmp_path / "two.png")
    one, two = pixels(tmp_path / "one.png"), pixels(tmp_path / "two.png")
    assert len(two) - len(one) == 30  # one more line of text and no more panels
    curves.draw(paths[1:], names[1:], tmp_path / "none.png")
    none = pixels(tmp_path / "none.png")
    assert not where(none, BLUE).any()
    assert where(none, "#000000").any()


def test_the_seeds_of_a_student_are_in_one_panel(tmp_path: Path, history: Callable[..., Path]) -> None:
    names = ["t--a--m--seed0", "t--a--m--seed1", "t--b--m--seed0", "teacher", "other--seedling"]
    paths = [history(name, [4 + place, 3, 2]) for place, name in enumerate(names)]
    curves.draw(paths, names, tmp_path / "c.png")
    assert len(pixels(tmp_path / "c.png")) == round(150 * (1.9 * 2 + 2.5 * 0.2))
    drawn = [where(pixels(tmp_path / "c.png"), colour).sum() for colour in (BLUE, ORANGE, GREEN)]
    assert drawn[0] > drawn[1] > 0 == drawn[2]
    titles = ["t--a--m--seed0, 1", "t--b--m--seed0", "teacher", "other--seedling"]
    read = {name: curves.read_losses(path) for name, path in zip(names, paths, strict=True)}
    panels = curves.by_student(read)
    assert list(panels) == titles
    assert panels[titles[0]] == [read[names[0]], read[names[1]]]
    assert all(panels[title] == [read[title]] for title in titles[1:])


def test_losses_are_read_in_order(history: Callable[..., Path]) -> None:
    assert curves.read_losses(history("a", [2.5, 1e-3])) == ([1, 2], [2.5, 0.001])


@pytest.mark.parametrize(
    ("losses", "expected"), [([100, 1], True), ([10, 1], False), ([100, 0], False), ([100, -1], False)]
)
def test_only_wide_positive_losses_are_logarithmic(losses: list[float], expected: bool) -> None:
    assert curves.wide(losses) is expected


@pytest.mark.parametrize(
    ("text", "names", "expected"),
    [
        (f"{HEADER}\n1,2,3,4,5\n", ["a", "b"], "1 histories but 2 names"),
        ("step,loss\n1,2\n", ["a"], "lacks some of the columns epoch, loss"),
        ("", ["a"], "lacks some of the columns epoch, loss"),
        (f"{HEADER}\n1,2,3,4,5\n2\n", ["a"], "row 2 has not as many values as the header; expected what pretrain or"),
        (f"{HEADER}\n1,2,3,4,5\n2,x,3,4,5\n", ["a"], "not a whole history"),
    ],
)
def test_refuses_histories(tmp_path: Path, text: str, names: list[str], expected: str) -> None:
    path = tmp_path / "history.csv"
    path.write_text(text)
    before = set(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=expected):
        curves.draw([path], names, tmp_path / "c.png")
    assert set(tmp_path.rglob("*")) == before


COLOURS = ["#ff0000", "#00ff00", "#0000ff", "#ffff00"]
"""The colour of all images in cluster 0, 1, 2 and 3."""

VAL = [0, 1, 2, 0, 1, 2, 2, 0, 0, 3]
"""The cluster of each val image."""


def encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def packed(folder: Path, **images: list[bytes]) -> dict[str, Path]:
    """Packs of these splits."""
    paths = {name: folder / f"{name}.h5" for name in images}
    splits = {}
    for name, blobs in images.items():
        splits[paths[name]] = (name, Split(("only",), np.zeros(len(blobs), dtype=np.int64), blobs))
    write_packs(splits, name="toy", source="test")
    return paths


@pytest.fixture
def clustered(tmp_path: Path) -> dict[str, Path]:
    """``train`` and ``val`` packs of one-coloured images, and the ``assignments`` that go by the colour."""
    blobs = [encoded(Image.new("RGB", (7, 5), colour)) for colour in COLOURS]
    paths = packed(tmp_path, train=[blobs[index] for index in VAL[::-1]], val=[blobs[index] for index in VAL])
    return {**paths, "assignments": assign(tmp_path / "clusters.h5", VAL[::-1], VAL, read_pack(paths["val"]))}


def assign(path: Path, train: list[int], val: list[int], pack: PackedImages) -> Path:
    """Writes assignments whose second run, not to be shown, has everything in cluster 3."""
    facts: dict[str, Any] = {
        **{name: np.array([each, [3] * len(each)], dtype=np.int32) for name, each in (("train", train), ("val", val))},
        **{f"{name}_labels": np.zeros(len(each), np.int64) for name, each in (("train", train), ("val", val))},
        "dataset_fingerprint": pack.fingerprint,
    }
    found = Assignments(**facts, classes=("only",), clusters=4, iterations=20, seeds=(0, 1), card=card(), dataset="toy")
    write_assignments(path, found)
    return path


def draw_clusters(paths: Mapping[str, Path], figure: Path, split: str = "val", **options: int) -> None:
    more = [part for name, value in options.items() for part in (f"--{name}", str(value))]
    places = ["--assignments", str(paths["assignments"]), "--images", str(paths[split]), "--figure", str(figure)]
    plot.main(["clusters", *places, "--split", split, *more])


@pytest.mark.parametrize("split", ["train", "val"])
def test_the_images_of_a_cluster_are_in_its_row(tmp_path: Path, clustered: dict[str, Path], split: str) -> None:
    draw_clusters(clustered, tmp_path / "c.png", split, rows=10, columns=3, seed=5)
    picture = pixels(tmp_path / "c.png")
    side = (round((9 - 1.05 - 0.06) * 150) + 4) // 3 - 4
    assert picture.shape[1] == 1350
    assigned = np.array(VAL if split == "val" else VAL[::-1])
    lines = clusters.chosen(assigned, 4, 10, 3, seed=5)
    assert sorted(line.cluster for line in lines) == [0, 1, 2, 3]
    top = picture.shape[0] - round(0.06 * 150) - 4 * side - 3 * 4
    for row, line in enumerate(lines):
        for column in range(3):
            y, x = top + row * (side + 4), round(1.05 * 150) + column * (side + 4)
            square = picture[y + 2 : y + side - 2, x + 2 : x + side - 2]
            shown = column < VAL.count(line.cluster)
            assert where(square, COLOURS[line.cluster] if shown else "#ffffff").all()


def test_the_figure_is_as_wide_with_many_columns(tmp_path: Path, clustered: dict[str, Path]) -> None:
    draw_clusters(clustered, tmp_path / "c.png", rows=2, columns=40)
    assert pixels(tmp_path / "c.png").shape[1] == 1350


@given(
    assigned=hnp.arrays(np.int32, st.integers(0, 60), elements=st.integers(0, 6)),
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    seed=st.integers(0, 1000),
)
def test_choices_are_of_the_cluster_and_without_repetition(
    assigned: NDArray[np.int32], rows: int, columns: int, seed: int
) -> None:
    lines = clusters.chosen(assigned, 7, rows, columns, seed)
    assert len(lines) == len({line.cluster for line in lines}) == min(rows, 7)
    for line in lines:
        assert line.size == np.count_nonzero(assigned == line.cluster)
        assert len(line.shown) == len(set(line.shown)) == min(columns, line.size)
        assert all(assigned[index] == line.cluster for index in line.shown)
    assert lines == clusters.chosen(assigned, 7, rows, columns, seed)


def test_choices_are_random_by_the_seed() -> None:
    """Every cluster and every image gets its turn; neither the first nor the largest are preferred."""
    assigned = np.repeat(np.arange(4), [1, 2, 10, 40])
    choices = [clusters.chosen(assigned, 4, 1, 1, seed)[0] for seed in range(400)]
    counts = np.bincount([line.cluster for line in choices], minlength=4)
    assert counts.min() > 60  # of 100 expected, whatever the cluster's size
    of_third = {line.shown[0] for line in choices if line.cluster == 2}
    assert of_third == set(range(3, 13))


def test_images_are_cropped_scaled_and_eight_bit(tmp_path: Path) -> None:
    stripes = np.zeros((2, 6, 3), dtype=np.uint8)
    stripes[:, 2:4] = [[[10, 20, 30], [40, 50, 60]]]
    deep = np.full((4, 4), 0x4000, dtype=np.uint16)
    blobs = [encoded(Image.fromarray(stripes)), encoded(Image.fromarray(deep)), encoded(Image.new("RGB", (3, 3)))]
    pack = read_pack(packed(tmp_path, val=blobs)["val"])
    wide = np.asarray(clusters.decoded(pack, 0, 4))
    assert wide.tolist() == [[[10, 20, 30]] * 2 + [[40, 50, 60]] * 2] * 4
    assert np.asarray(clusters.decoded(pack, 1, 2)).tolist() == [[[0x40] * 3] * 2] * 2
    content = pack.path.read_bytes()
    pack.path.write_bytes(content.replace(blobs[2][40:], bytes(len(blobs[2]) - 40)))
    with pytest.raises(UserError, match=r"val\.h5: image 2 does not decode"):
        clusters.decoded(read_pack(pack.path), 2, 4)


@pytest.mark.parametrize("what", ["dataset", "split", "number of images"])
def test_refuses_images_that_were_not_clustered(tmp_path: Path, clustered: dict[str, Path], what: str) -> None:
    blob, split, images = encoded(Image.new("RGB", (2, 2))), "val", clustered["val"]
    if what == "dataset":
        (tmp_path / "other").mkdir()
        images = packed(tmp_path / "other", val=[blob] * len(VAL))["val"]
    elif what == "split":
        split = "train"
    else:
        assign(clustered["assignments"], VAL, VAL[1:], read_pack(images))
    before = set(tmp_path.rglob("*"))
    places = ("--assignments", clustered["assignments"], "--images", images, "--figure", tmp_path / "c.png")
    done = program("plot", "clusters", *places, "--split", split)
    expected = (clustered["assignments"], images, f"do not belong together: {what}")
    assert_refused(done, *expected, folder=tmp_path, before=before)


@pytest.mark.parametrize("count", ["0", "-1", "many"])
def test_refuses_no_rows(clustered: dict[str, Path], capsys: pytest.CaptureFixture[str], count: str) -> None:
    places = ["--assignments", str(clustered["assignments"]), "--images", str(clustered["val"]), "--figure", "c.png"]
    with pytest.raises(SystemExit):
        plot.main(["clusters", *places, f"--rows={count}"])
    assert "expected a whole number of at least 1" in capsys.readouterr().err


def test_refuses_two_histories_of_one_name(tmp_path: Path, history: Callable[..., Path]) -> None:
    with pytest.raises(UserError, match="--names has an entry twice: x x"):
        curves.draw([history("a", [1]), history("b", [2])], ["x", "x"], tmp_path / "c.png")


def test_dollars_in_names_are_no_mathematics(tmp_path: Path) -> None:
    groups = [bars.Group("cost $x_$", (("5 $\\frac$ b", cell(50)),))]
    looks = bars.coloured(["5 $\\frac$ b"])
    _, texts = drawn_texts(bars, lambda: bars.draw_panels([bars.Panel("", "", groups)], looks, tmp_path / "bars.png"))
    assert {"cost $x_$", "5 $\\frac$ b"} <= {text.get_text() for text in texts}


def test_refuses_more_columns_than_the_figure_has_pixels(tmp_path: Path, clustered: dict[str, Path]) -> None:
    with pytest.raises(UserError, match="--columns is 400: so many images do not fit"):
        draw_clusters(clustered, tmp_path / "c.png", columns=400)
    assert not (tmp_path / "c.png").exists()


@pytest.mark.parametrize("name", ["figure", "figure.jpg", "figure.PNG"])
def test_refuses_other_kinds_of_figure(tmp_path: Path, history: Callable[..., Path], name: str) -> None:
    with pytest.raises(UserError, match=r"expected one of \.png, \.svg, \.pdf"):
        curves.draw([history("a", [1])], ["a"], tmp_path / name)
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("kind", ["png", "svg", "pdf"])
def test_equal_inputs_give_equal_files(
    tmp_path: Path, write: Write, history: Callable[..., Path], clustered: dict[str, Path], kind: str
) -> None:
    """In this process and in one with another order of sets and another day."""
    metrics = [student(write, "tiny", method, 50, std=3) for method in ("first", "second")]
    places = {"--assignments": clustered["assignments"], "--images": clustered["val"], "--split": "val"}
    commands: list[list[object]] = [
        ["bars", "--metrics", *metrics],
        ["curves", "--histories", history("a", [3, 2, 1]), "--names", "a"],
        ["clusters", *itertools.chain(*places.items())],
    ]
    for command in commands:
        first, second = (tmp_path / f"{command[0]}-{place}.{kind}" for place in (1, 2))
        plot.main([*map(str, command), "--figure", str(first)])
        done = program("plot", *command, "--figure", second, PYTHONHASHSEED="7", SOURCE_DATE_EPOCH="1000000000")
        assert done.returncode == 0, done.stderr
        assert first.read_bytes() == second.read_bytes()
        starts = {"png": b"\x89PNG", "svg": b"<?xml", "pdf": b"%PDF"}
        assert first.read_bytes().startswith(starts[kind])
