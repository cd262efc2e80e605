"""The report's part on a segmentation: numbers of all pixels, pictures that are the masks, only where there are any."""

import re
import shutil
import sqlite3
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from analysis.data.results import Run, read_run
from analysis.page.document import Block, Heading, Picture, Table, format_html, format_markdown, walk_blocks
from analysis.page.inline_svg import inline_svg
from analysis.report.report import compose_report
from analysis.segmentation.answers import Segmentation, analyse_segmentation
from analysis.segmentation.pictures import CLASS_COLOURS, VOID_COLOUR, colour_classes
from analysis.segmentation.section import answer_segmentation, build_segmentation
from nas.data.pixel_labels import VOID
from nas.model.candidate import Candidate
from nas.model.config import NetworkConfig
from nas.model.cost import predict_cost
from nas.records.metrics import Metric
from nas.records.safe_files import pack_bytes
from nas.records.trial import Outcome
from nas.run.ledger import Ledger
from search_spaces.budget import parse_budget
from search_spaces.errors import ConflictError, InputError
from search_spaces.templates import find_template
from tests.support.other_task import ABOUT
from tests.support.resamples import use_resamples

LAYERS, N_SEEDS = 8, 3
CLASSES = ["background", "road <b>", "sky"]
METRICS = (Metric("miou", maximize=True), Metric("loss"))
HEIGHT, WIDTH = 5, 7


def draw_masks(name: str, seed: int, void: bool = False) -> NDArray[np.uint8]:
    masks = np.random.default_rng([*name.encode(), seed]).integers(0, 3, (2, HEIGHT, WIDTH), dtype=np.uint8)
    if void:
        masks[:, 0] = VOID
    return masks


def pack(arrays: NDArray[np.uint8]) -> list[dict[str, Any]]:
    return [pack_bytes(array.tobytes(), array.shape) for array in arrays]


def draw_confusion(name: str, seed: int) -> NDArray[np.int64]:
    """Counts of three classes, the first by far the largest; log answers right more often."""
    wrong = np.random.default_rng([*name.encode(), seed]).integers(5, 30, (3, 3))
    right = np.diag([900, 60, 40]) * (2 if name == "log" else 1)
    counts: NDArray[np.int64] = wrong + right
    return counts


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """A search of the templates of a budget, whose trainings left a confusion matrix and two answers each."""
    folder = tmp_path_factory.mktemp("segmentation") / "run"
    folder.mkdir()
    images = np.random.default_rng(1).integers(0, 256, (2, HEIGHT, WIDTH, 3), dtype=np.uint8)
    examples = {
        "data": "photos <i>",
        "classes": CLASSES,
        "images": pack(images),
        "masks": pack(draw_masks("truth", 0, void=True)),
    }
    config = {"layers": LAYERS, "seeds": N_SEEDS, "epochs": 3, "transition": "log", "seed": 0, "strategy": "templates"}
    attributes = {"asked": 0, "kind": "search", "config": config, "examples": examples, **ABOUT}
    ledger = Ledger(folder / "study.db", attributes, frozenset(), LAYERS, metrics=METRICS)
    ledger.accept()
    budget = parse_budget("log", LAYERS)
    for name in ("nearest_log_i", "evenly_log_i", "log"):
        pattern = find_template(name).build(LAYERS)
        for seed in range(N_SEEDS):
            counts = draw_confusion(name, seed)
            details = {"confusion": counts.tolist(), "answers": pack(draw_masks(name, seed))}
            values = {"miou": float(find_ious(counts).mean()), "loss": 1.0 + seed}
            candidate = Candidate(pattern, NetworkConfig(layers=LAYERS), seed, name)
            number = ledger.enter(candidate, "templates", budget, predict_cost(candidate))
            ledger.finish(number, Outcome(values, 3, 0.2, ({"epoch": 3, **values},), details=details))
    return read_run(folder)


def find_ious(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """A second computation, by numpy."""
    ious: NDArray[np.float64] = np.diag(counts) / (counts.sum(0) + counts.sum(1) - np.diag(counts))
    return ious


def analyse(run: Run) -> Segmentation:
    segmentation = analyse_segmentation(run, run.candidates)
    assert segmentation is not None
    return segmentation


def test_the_numbers_are_means_over_seeds_with_student_intervals(run: Run) -> None:
    segmentation = analyse(run)
    assert [answers.name for answers in segmentation.patterns] == ["log (best)", "nearest_log_i"]
    for answers in segmentation.patterns:
        template = answers.name.removesuffix(" (best)")
        by_seed = np.array([find_ious(draw_confusion(template, seed)) for seed in range(N_SEEDS)])
        assert answers.n_seeds == N_SEEDS
        for values, estimate in zip([by_seed.mean(axis=1), *by_seed.T], [answers.miou, *answers.ious], strict=True):
            assert estimate is not None
            low, high = stats.t.interval(0.95, N_SEEDS - 1, values.mean(), stats.sem(values))
            assert estimate.value == pytest.approx(values.mean())
            assert (estimate.low, estimate.high) == pytest.approx((max(low, 0), min(high, 1)))


def test_a_class_that_no_pixel_has_has_no_number(run: Run) -> None:
    details = {
        number: {**kept, "confusion": [[900, 5, 0], [9, 8, 0], [0, 0, 0]]} for number, kept in run.details.items()
    }
    segmentation = analyse(replace(run, details=details))
    assert segmentation.patterns[0].ious[2] is None
    assert segmentation.patterns[0].miou.value == pytest.approx((900 / 914 + 8 / 22) / 2)
    (table,) = [block for block in build_segmentation(segmentation, "") if isinstance(block, Table)]
    assert table.rows[3][2:] == ("-", "-")
    assert "Of 2 classes" in answer_segmentation(segmentation)


@pytest.fixture(scope="module")
def blocks(run: Run) -> list[Block]:
    return [*build_segmentation(analyse(run), "a caption")]


def test_the_answer_names_the_best_pattern_next_to_guessing(run: Run, blocks: list[Block]) -> None:
    page = format_markdown(blocks)
    segmentation = analyse(run)
    counts = draw_confusion("nearest_log_i", 0).sum(axis=1)
    assert f"always answering background would have {segmentation.shares[0] / 3:.3f}" in page
    assert "The best pattern, log, has an mIoU of 0." in page
    assert "over 3 seeds" in page
    assert "Validation images of photos \\<i\\>, the class of each pixel" in page
    assert segmentation.shares == pytest.approx((counts / counts.sum()).tolist())


def read_pictures(svg: str) -> list[NDArray[np.str_]]:
    """Return the colours of each picture's pixels, from the lines that are drawn."""
    pictures = []
    for group in ET.fromstring(svg).iter():  # noqa: S314 - our own drawing
        if "scale(" not in group.get("transform", ""):
            continue
        colours = np.full((HEIGHT, WIDTH), "", dtype="<U7")
        for path in group:
            for start, row, length in re.findall(r"M(\d+) (\d+)\.5h(\d+)", path.get("d", "")):
                place = int(row), slice(int(start), int(start) + int(length))
                assert (colours[place] == "").all()
                colours[place] = path.get("stroke", "")
        pictures.append(colours)
    return pictures


def test_every_picture_is_what_was_recorded(blocks: list[Block]) -> None:
    (picture,) = [block for block in blocks if isinstance(block, Picture)]
    drawn = read_pictures(picture.svg)
    assert len(drawn) == 2 * 4
    colours = np.array(colour_classes(CLASSES))
    for row in range(2):
        image, truth, log, nearest = drawn[4 * row : 4 * row + 4]
        assert (image != "").all()
        assert np.array_equal(truth, colours[draw_masks("truth", 0, void=True)[row]])
        assert np.array_equal(log, colours[draw_masks("log", 0)[row]])
        assert np.array_equal(nearest, colours[draw_masks("nearest_log_i", 0)[row]])
    for word in ("image", "truth", "log (best)", "nearest_log_i", "background", "sky", "void", "a caption"):
        assert f">{word}<" in picture.svg
    assert "road &lt;b&gt;" in picture.svg
    assert inline_svg(picture.svg, "p-", picture.alt).startswith("<svg")


def test_grey_images_are_drawn_too(run: Run) -> None:
    images = np.linspace(0, 255, 2 * HEIGHT * WIDTH).astype(np.uint8).reshape(2, HEIGHT, WIDTH, 1)
    segmentation = analyse(replace(run, examples={**run.examples, "images": pack(images)}))
    picture = next(block for block in build_segmentation(segmentation, "") if isinstance(block, Picture))
    shades = [int(colour[1:3], 16) for colour in read_pictures(picture.svg)[0].ravel()]
    assert np.abs(np.array(shades) - images[0].ravel()).max() <= 6
    assert shades == sorted(shades)


def test_classes_and_void_have_colours_of_their_own() -> None:
    names = ["background", *(f"class {number}" for number in range(len(CLASS_COLOURS)))]
    colours = colour_classes(names)[: len(names)]
    assert len({*colours, VOID_COLOUR}) == len(names) + 1
    assert colour_classes([*names, "more"])[len(names)] == CLASS_COLOURS[0]


def test_the_page_and_the_summary_have_it_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 20)
    report = compose_report(run)
    headings = [block.text for block in walk_blocks(report.blocks) if isinstance(block, Heading)]
    assert headings.count("Which pixels are found") == 1
    assert "<b>" not in format_html("a", report.blocks).replace("&lt;b&gt;", "")
    (stratum,) = report.summary["strata"]
    assert stratum["segmentation"]["patterns"][0]["name"] == "log (best)"
    assert stratum["segmentation"]["classes"] == CLASSES


def test_a_run_without_pictures_says_nothing_of_pixels(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    use_resamples(monkeypatch, 20)
    for other in (replace(run, details={}), replace(run, examples={})):
        assert analyse_segmentation(other, other.candidates) is None
    report = compose_report(replace(run, details={}))
    assert "segmentation" not in report.summary["strata"][0]
    assert "pixels" not in format_markdown(report.blocks)


def spoil_details(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: replace(run, details={number: {**kept, **changes} for number, kept in run.details.items()})


def spoil_examples(**changes: Any) -> Callable[[Run], Run]:
    return lambda run: replace(run, examples={**run.examples, **changes})


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (spoil_details(confusion=None), "confusion matrix of 3"),
        (spoil_details(confusion=[[1, 2], [3, 4]]), "confusion matrix of 3"),
        (spoil_details(confusion=[[1, 2, -1]] * 3), "confusion matrix of 3"),
        (spoil_details(confusion=[[0, 0, 0]] * 3), "confusion matrix of 3"),
        (spoil_details(confusion=[[1.5, 0, 0]] * 3), "confusion matrix of 3"),
        (spoil_details(confusion=[[2**62, 0, 0]] * 3), "confusion matrix of 3"),
        (spoil_details(answers=[]), "an answer for each picture"),
        (spoil_details(answers="all"), "'all'"),
        (spoil_details(answers=[{"shape": [10**5, 10**5], "zlib": ""}]), "at most"),
        (spoil_examples(classes="ab"), "'ab'"),
        (spoil_examples(classes=["only"]), "'only'"),
        (spoil_examples(images=[]), "other shapes"),
        (spoil_examples(images=[pack_bytes(bytes(70), (5, 7, 2))] * 2), r"\(5, 7, 2\)"),
        (spoil_examples(masks=[pack_bytes(bytes(35), (35,))] * 2), r"\(35,\)"),
    ],
)
def test_a_record_that_no_program_of_ours_wrote_is_refused(run: Run, spoil: Callable[[Run], Run], named: str) -> None:
    with pytest.raises(InputError, match=named):
        analyse_segmentation(spoil(run), run.candidates)


def test_details_are_sealed_with_their_outcome(run: Run, tmp_path: Path) -> None:
    shutil.copy(run.path / "study.db", tmp_path / "study.db")
    with sqlite3.connect(tmp_path / "study.db") as database:
        database.execute(
            "UPDATE trial_user_attributes SET value_json = replace(value_json, '\"answers\"', '\"other\"') "
            "WHERE value_json LIKE '%answers%'"
        )
    database.close()
    with pytest.raises(ConflictError, match="its outcome"):
        read_run(tmp_path)
