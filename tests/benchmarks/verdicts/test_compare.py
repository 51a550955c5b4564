"""Results side by side: what may be compared, when a difference is significant, and which gates fail."""

from __future__ import annotations

import copy
import math
import re
from collections.abc import Callable
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from drawn_result import FP32, HEADLINE, Result, draw_latency, draw_result, draw_samples, seal

from benchmarks.verdicts.compare import Comparison, compare_results
from benchmarks.verdicts.comparison_table import render_comparison
from benchmarks.verdicts.differences import (
    compare_estimates,
    compare_paired_rounds,
    compute_t_quantile,
    estimate_figure,
)
from benchmarks.verdicts.gate import list_failed, list_undecided, parse_gates
from edge_runtime.errors import EdgeSegError, UsageError

Change = Callable[[Result], object]


def draw_small(seed: int, p50: float = 100.0, change: Change | None = None, **noise: Any) -> Result:
    """A result with one subject and one baseline, its times drawn anew from the seed."""
    rng = np.random.default_rng([seed, 99])
    result = draw_result()
    result["subjects"] = {key: result["subjects"][key] for key in (HEADLINE, FP32)}
    for key, centre in ((HEADLINE, p50), (FP32, 300.0)):
        result["subjects"][key]["latency"] = draw_latency(draw_samples(rng, centre, **noise))
    if change:
        change(result)
    return seal(result)


def find_row(comparison: Comparison, figure: str) -> Any:
    return next(row for row in comparison.rows if row.is_subject and row.figure == figure)


def verdict(comparison: Comparison, figure: str) -> str:
    return str(find_row(comparison, figure).changes[1].verdict)


# When a difference is significant


@pytest.mark.parametrize("figure", ["p50", "p90", "mean"])
def test_two_runs_of_the_same_are_no_difference(figure: str) -> None:
    """Of 100 pairs of runs drawn from one distribution at least 95 are 'no difference', and none is undecided."""
    rng = np.random.default_rng(3)
    verdicts = [compare_drawn(rng, figure, 100.0, 100.0).verdict for _ in range(100)]
    assert verdicts.count("no difference") >= 95
    assert "inconclusive" not in verdicts


@pytest.mark.parametrize(("slow", "word"), [(1.10, "slower"), (1 / 1.10, "faster")])
@pytest.mark.parametrize("figure", ["p50", "p90", "mean"])
def test_a_tenth_is_found(figure: str, slow: float, word: str) -> None:
    """Of 40 pairs of runs that differ by 10 % at least 38 are found, in the right direction."""
    rng = np.random.default_rng(4)
    verdicts = [compare_drawn(rng, figure, 100.0, 100.0 * slow).verdict for _ in range(40)]
    assert verdicts.count(word) >= 38


def compare_drawn(rng: np.random.Generator, figure: str, one: float, other: float, drift: float = 0.02) -> Any:
    tables = [to_rows(draw_samples(rng, p50, drift=drift)) for p50 in (one, other)]
    return compare_estimates(*(estimate_figure(table, figure) for table in tables))


def to_rows(samples: list[list[float]]) -> Any:
    return np.array([ms for _, ms in samples]).reshape(-1, 2)


def test_the_interval_has_its_coverage() -> None:
    """The 95 % interval of a ratio holds the true one in 93 to 99.9 of 100 draws, few rounds or many."""
    rng = np.random.default_rng(5)
    for rounds, trials in ((4, 150), (30, 150)):
        held = 0
        for _ in range(trials):
            tables = [to_rows(draw_samples(rng, p50, rounds, drift=0.05)) for p50 in (100.0, 110.0)]
            change = compare_estimates(*(estimate_figure(table, "mean") for table in tables))
            held += change.low <= 1.1 <= change.high
        assert 0.93 * trials <= held <= 0.999 * trials, rounds


def test_rounds_not_samples_are_independent() -> None:
    """A hundred samples of each of three shifting rounds decide nothing; as many of steady rounds do."""
    rng = np.random.default_rng(6)
    for drift, verdict in ((0.15, "inconclusive"), (0.001, "no difference")):
        runs = [[ms for _, ms in draw_samples(rng, 100, 3, 100, drift)] for _ in range(2)]
        change = compare_estimates(*(estimate_figure(np.array(times).reshape(3, 100), "p50") for times in runs))
        assert change.verdict == verdict


@pytest.mark.parametrize("rounds", [1, 2])
def test_too_few_rounds_are_inconclusive(rounds: int) -> None:
    """Fewer than three rounds show no difference, however large: no interval, no verdict."""
    rng = np.random.default_rng(7)
    tables = [to_rows(draw_samples(rng, p50, rounds)) for p50 in (100.0, 300.0)]
    change = compare_estimates(*(estimate_figure(table, "p50") for table in tables))
    assert (change.low, change.high, change.verdict) == (None, None, "inconclusive")


def test_a_run_against_itself() -> None:
    """One and the same result twice: every ratio is 1, every difference 0, no difference is reported."""
    comparison = compare_results([draw_result(), draw_result()])
    assert comparison.dimension == "repeat"
    for row in comparison.rows:
        change = row.changes[1]
        assert change is None or change.value == (0 if row.subject.startswith("accuracy") else 1)
        assert change is None or change.verdict in ("no difference", "the same", "one reading each")


@pytest.mark.parametrize(("freedom", "quantile"), [(2, 4.3027), (3, 3.1824), (5, 2.5706), (29, 2.0452), (1e6, 1.96)])
def test_students_t(freedom: float, quantile: float) -> None:
    """The quantile agrees with the tables, to 1 % from three degrees of freedom on."""
    assert compute_t_quantile(freedom) == pytest.approx(quantile, rel=0.06 if freedom < 3 else 0.01)
    assert NormalDist().inv_cdf(0.975) == pytest.approx(1.96, abs=1e-3)


def test_pairs_of_one_run_share_its_disturbances() -> None:
    """Two subjects that slow down together from round to round keep their ratio, with a narrow interval."""
    result = draw_result()
    waves = [1 + 0.5 * math.sin(number) for number in range(30)]
    for key, centre in ((HEADLINE, 50.0), (FP32, 100.0)):
        result["subjects"][key]["latency"]["samples"] = [[k, centre * wave] for k, wave in enumerate(waves)]
    change = compare_paired_rounds(result, HEADLINE, FP32, "mean")
    assert change.value == pytest.approx(0.5) and change.high - change.low < 1e-6 and change.verdict == "faster"


# What may be compared


def set_field(path: str, value: Any) -> Change:
    def change(result: Result) -> None:
        *steps, last = path.split(".")
        place = result
        for step in steps:
            place = place[step]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("path", "value", "dimension"),
    [
        ("machine.facts.cpu", "ARM Cortex-A72", "device"),
        ("machine.facts.governor", "powersave", "device"),
        ("model.source_sha256", "b1" * 32, "model"),
        ("project.version", "0.3.0", "version"),
        ("machine.facts.versions", {"ai-edge-litert": "2.4.0"}, "version"),
        ("project.commit", "1234567", "version"),
        ("machine.facts.kernel", "7.0", "repeat"),
        ("settings.seed", 8, "repeat"),
    ],
)
def test_what_differs_is_what_is_compared(path: str, value: Any, dimension: str) -> None:
    """The one field that differs names the comparison; kernel and seed are no dimension of their own."""
    comparison = compare_results([draw_small(1), draw_small(2, change=set_field(path, value))])
    assert comparison.dimension == dimension
    assert (path in comparison.field or comparison.field.startswith(path)) == (dimension != "repeat")
    assert dimension in ("repeat",) or comparison.field in render_comparison(comparison)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ([("settings.mode", "paper")], "settings.mode differs (A: standard, B: paper)"),
        ([("model.source_sha256", "b1" * 32), ("machine.facts.cpu", "x")], "device and model differ at once: machine"),
        (
            [("project.version", "9"), ("machine.facts.board", "x")],
            "machine.facts.board (A: Raspberry Pi 5 Model B",
        ),
        ([("validity", {"status": "invalid", "reasons": ["throttled"]})], "is an invalid run: throttled"),
        ([("subjects", {"x": {"name": "x", "role": "peer", "status": "absent", "reason": "gone"}})], "no subject was"),
    ],
)
def test_the_incomparable_is_refused_with_its_field(changes: list[tuple[str, Any]], words: str) -> None:
    """Another protocol, two differences at once, an invalid run, nothing in common: one line that names the field."""
    other = draw_small(2)
    for path, value in changes:
        set_field(path, value)(other)
    with pytest.raises(EdgeSegError, match=re.escape(words)) as caught:
        compare_results([draw_small(1), other])
    assert "\n" not in str(caught.value)


def test_one_result_is_no_comparison() -> None:
    """Fewer than two results are a usage error."""
    with pytest.raises(UsageError):
        compare_results([draw_small(1)])


def test_other_images_keep_accuracy_apart_and_nothing_else() -> None:
    """Results on other images compare their speeds; their accuracies are refused, `data.sha256` named."""
    comparison = compare_results([draw_small(1), draw_small(2, change=set_field("data.sha256", "0" * 64))])
    assert verdict(comparison, "p50") == "no difference"
    assert all(why.startswith("data.sha256 differs") for why in comparison.not_compared.values())
    assert not any(row.figure == "lesion_iou" for row in comparison.rows)
    assert "not compared: lesion_iou, mean_iou, dice: data.sha256 differs" in render_comparison(comparison)
    with pytest.raises(EdgeSegError, match=r"data\.sha256 differs"):
        list_failed(comparison, "iou=0.001")


def test_devices_are_compared_with_the_threads_that_suit_them() -> None:
    """Two devices that were measured with other thread counts are still compared, each at its best."""

    def rename(result: Result) -> None:
        subject = result["subjects"].pop(HEADLINE)
        result["subjects"]["drq-litert-2"] = subject | {"threads": 2, "name": "edge-seg DRQ on LiteRT, 2 threads"}
        result["end_to_end"] = result["sustained"] = result["soak"] = result["accuracy"] = None
        result["machine"]["facts"]["board"] = "Other board"

    comparison = compare_results([draw_small(1), draw_small(2, p50=50, change=rename)])
    row = find_row(comparison, "p50")
    assert row.subject == "edge-seg DRQ on LiteRT, 4 threads / edge-seg DRQ on LiteRT, 2 threads"
    assert row.changes[1].verdict == "faster"


def test_other_recipes_are_other_models() -> None:
    """A result of INT8 and one of DRQ are compared as models, subject with subject."""

    def convert(result: Result) -> None:
        result["model"]["recipe"] = result["subjects"][HEADLINE]["recipe"] = "int8"
        result["subjects"]["int8-litert-4"] = result["subjects"].pop(HEADLINE)
        result["end_to_end"] = result["sustained"] = result["accuracy"] = None

    comparison = compare_results([draw_small(1), draw_small(2, p50=80, change=convert)])
    assert (comparison.dimension, comparison.field) == ("model", "model.recipe")
    assert verdict(comparison, "p50") == "faster"


def test_an_inconclusive_run_decides_no_speed() -> None:
    """Of an inconclusive run every speed is inconclusive, its size and accuracy are not, and the reason is given."""
    doubt = set_field("validity", {"status": "inconclusive", "reasons": ["unsteady"]})
    comparison = compare_results([draw_small(1), draw_small(2, p50=200, change=doubt)])
    assert verdict(comparison, "p50") == "inconclusive"
    assert verdict(comparison, "size") == "the same"
    assert "B is inconclusive (unsteady)" in render_comparison(comparison)
    assert list_failed(comparison, "p50=5%") == []
    assert len(list_undecided(comparison, "p50=5%")) == 1


def test_three_results_stand_side_by_side() -> None:
    """Every further result is compared with the first."""
    comparison = compare_results([draw_small(1), draw_small(2, p50=120), draw_small(3, p50=60)])
    assert [change and change.verdict for change in find_row(comparison, "p50").changes] == [None, "slower", "faster"]
    text = render_comparison(comparison)
    assert all(f"\n{letter}  " in text for letter in "ABC") and "C/A 0.6" in text


# Accuracy


def spoil(by: int) -> Change:
    """Moves pixels from tp to fn and fp on every image: a worse model on the same images."""

    def change(result: Result) -> None:
        for row in result["accuracy"][HEADLINE]["per_image"]:
            row["tp"] -= min(by, row["tp"])
            row["fp"] += by
            row["fn"] += by

    return change


def test_a_loss_of_accuracy_is_found_image_by_image() -> None:
    """A few pixels lost on every image are a significant loss, though the scores themselves spread widely."""
    comparison = compare_results([draw_small(1), draw_small(2, change=spoil(8))])
    change = find_row(comparison, "lesion_iou").changes[1]
    width = np.diff(draw_result()["accuracy"][HEADLINE]["lesion_iou"]["interval"])[0]
    assert change.verdict == "worse" and change.high - change.low < width / 3
    one, other = draw_small(1)["accuracy"][HEADLINE], draw_small(1, change=spoil(8))["accuracy"][HEADLINE]
    assert change.value == pytest.approx(pool(other) - pool(one), abs=1e-6)
    assert len(list_failed(comparison, "lesion_iou=0.001")) == 1
    assert list_failed(comparison, "iou=0.5") == []


def pool(entry: Result) -> float:
    tp, fp, fn = (sum(row[name] for row in entry["per_image"]) for name in ("tp", "fp", "fn"))
    return float(tp / (tp + fp + fn))


def test_a_handful_of_images_decides_nothing() -> None:
    """Nine images are too few to call a model worse, however large the difference."""

    def shorten(result: Result) -> None:
        entry = result["accuracy"][HEADLINE]
        entry["per_image"] = entry["per_image"][:9]

    def both(result: Result) -> None:
        spoil(80)(result)
        shorten(result)

    comparison = compare_results([draw_small(1, change=shorten), draw_small(2, change=both)])
    assert verdict(comparison, "lesion_iou") == "inconclusive"


# Gates


def test_gates_fail_on_a_regression_beyond_their_limit_alone() -> None:
    """10 % slower fails a gate of 5 %, passes one of 20 %; faster and the same pass any."""
    base = draw_small(1)
    slower = compare_results([base, draw_small(2, p50=110)])
    assert [line.partition(" ")[0] for line in list_failed(slower, "p50=5%,p90=5%,mean=5%")] == ["p50", "p90", "mean"]
    assert list_failed(slower, "p90=20%,size=0%,iou=0.001") == []
    assert list_failed(compare_results([base, draw_small(2, p50=80)]), "p50=0%,p90=0%") == []
    assert list_failed(compare_results([base, draw_small(2)]), "p50=0%,p90=0%,mean=0%,size=0%,iou=0,dice=0") == []


def test_gates_look_at_the_model_alone() -> None:
    """A baseline that got slower fails no gate."""

    def slow_baseline(result: Result) -> None:
        samples = [[k, 2 * ms] for k, ms in result["subjects"][FP32]["latency"]["samples"]]
        result["subjects"][FP32]["latency"] = draw_latency(samples)

    comparison = compare_results([draw_small(1), draw_small(2, change=slow_baseline)])
    assert list_failed(comparison, "p50=5%") == []


def test_a_larger_file_fails_its_gate() -> None:
    """Size has no spread: any growth beyond the limit fails."""
    bigger = set_field(f"subjects.{HEADLINE}.file.bytes", 35_000_000)
    comparison = compare_results([draw_small(1), draw_small(2, change=bigger)])
    assert len(list_failed(comparison, "size=2%")) == 1 and list_failed(comparison, "size=5%") == []


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ("pp90=5%", "'pp90' is no gate; did you mean 'p90'?"),
        ("memory=5%", "'memory' is no gate"),
        ("p90=5", "the limit of p90 is per cent, as p90=5%"),
        ("iou=1%", "the limit of lesion_iou is an absolute drop"),
        ("p90=-5%", "'-5%' is no limit"),
        ("p90=nan%", "'nan%' is no limit"),
        ("p90=5%,p90=6%", "p90 stands twice"),
        ("p90", "the limit of p90 is per cent"),
        ("", "no gate is given"),
    ],
)
def test_limits_that_make_no_sense(limits: str, words: str) -> None:
    """An unknown gate, a missing percent sign, a negative limit: usage errors that name the near miss."""
    with pytest.raises(UsageError, match=re.escape(words)):
        parse_gates(limits)


def test_markdown_of_hostile_names_keeps_its_columns() -> None:
    """Names with bars and markup open no cell and no tag."""
    name = set_field(f"subjects.{HEADLINE}.name", "a|b<script>`")
    text = render_comparison(compare_results([draw_small(1), draw_small(2, change=name)]), "markdown")
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert len({len(re.findall(r"(?<!\\)\|", line)) for line in table}) == 1
    assert "<script" not in text


def test_comparing_changes_no_result() -> None:
    """The results are as they were."""
    results = [draw_small(1), draw_small(2)]
    before = copy.deepcopy(results)
    compare_results(results)
    assert results == before
