"""Claims checked against a result: three verdicts, the reason, the baseline by name, and a strict reader."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from drawn_result import FP32, HEADLINE, Result, draw_latency, draw_result

from benchmarks.result.quoted import to_plain
from benchmarks.verdicts.claims import ClaimVerdict, check_claims
from benchmarks.verdicts.claims_file import PAPER, read_claims
from edge_runtime.errors import EdgeSegError

CLAIM = {
    "id": "faster",
    "says": "it is faster",
    "recipe": "drq",
    "figure": "p50",
    "kind": "reduction",
    "at_least": 0.5,
    "against": '[{ engine = "litert", recipe = "fp32" }]',
}


def write_claims(path: Path, text: str = "", **fields: Any) -> Path:
    """A claims file with one claim; fields replace or, if None, remove its own."""
    lines = ['format = "edge-seg-claims/1"', 'title = "Tests"', "[[claim]]"]
    for name, value in (CLAIM | fields).items():
        if value is not None:
            plain_text = isinstance(value, str) and not value.startswith(("[", "{"))
            lines.append(f"{name} = {value!r}" if plain_text else f"{name} = {value}")
    path.write_text(text or "\n".join(lines))
    return path


def by_baseline(result: Result, claim: str) -> dict[str, ClaimVerdict]:
    return {verdict.baseline: verdict for verdict in check_claims(result, PAPER) if verdict.claim.id == claim}


# The paper's claims


def test_the_papers_claims_are_its_table() -> None:
    """The file claims -75 % size, -37 % time, < 0.0004 loss and 0.8455, each in the paper's words."""
    title, claims = read_claims(PAPER)
    assert title.startswith("Aprianto and Riana 2025")
    limits = {claim.id: (claim.figure, claim.kind, claim.limit, claim.is_minimum) for claim in claims}
    assert limits["size-reduction"] == ("size", "reduction", 0.75, True)
    assert limits["latency-reduction"] == ("mean", "reduction", 0.37, True)
    assert limits["iou-loss"] == ("mean_iou", "drop", 0.0004, False)
    assert limits["mean-iou"] == ("mean_iou", "value", 0.8455, True)
    assert (
        pytest.approx(0.75, abs=next(c.rounding for c in claims if c.id == "size-reduction")) == 1 - 32.3863 / 127.2101
    )
    assert (
        pytest.approx(0.37, abs=next(c.rounding for c in claims if c.id == "latency-reduction")) == 1 - 0.1973 / 0.3143
    )


def test_another_baseline_is_another_text() -> None:
    """The same model is compared with Keras and with LiteRT FP32, each by name, with other figures."""
    found = by_baseline(draw_result(), "latency-reduction")
    keras, litert = found["Keras FP32 (tf.function)"], found["LiteRT FP32, 4 threads"]
    assert keras.verdict == litert.verdict == "reproduced"
    assert str(keras) != str(litert) and "Keras" in str(keras) and "LiteRT FP32" in str(litert)
    subjects = draw_result()["subjects"]
    for verdict, key in ((keras, "keras-fp32"), (litert, FP32)):
        ratio = subjects[HEADLINE]["latency"]["mean_ms"] / subjects[key]["latency"]["mean_ms"]
        assert f"{100 * (1 - ratio):.0f}" in to_plain(verdict.reason)
    missing = found["stock-fp32 on litert"]
    assert missing.verdict == "not comparable" and "this baseline was not measured" in str(missing)


def test_a_baseline_that_was_swapped_changes_the_verdict() -> None:
    """If LiteRT's FP32 times are replaced, the verdict against it changes, and that against Keras does not."""

    def slow_keras(result: Result) -> None:
        samples = [[k, 190.0 + k % 3] for k in range(30)]
        result["subjects"][FP32]["latency"] = draw_latency(samples)

    found = by_baseline(draw_result(change=slow_keras), "latency-reduction")
    assert found["Keras FP32 (tf.function)"].verdict == "reproduced"
    assert found["LiteRT FP32, 4 threads"].verdict == "not reproduced"


def test_size_is_exact() -> None:
    """The size claim is checked by the files' bytes, without an interval, and allows the paper's own rounding."""
    found = by_baseline(draw_result(), "size-reduction")["LiteRT FP32, 4 threads"]
    assert found.verdict == "reproduced" and "74.5 %" in str(found) and "± 1.00 %" in str(found)

    def grow(result: Result) -> None:
        result["subjects"][HEADLINE]["file"]["bytes"] = 40_000_000

    assert by_baseline(draw_result(change=grow), "size-reduction")["LiteRT FP32, 4 threads"].verdict == "not reproduced"


@pytest.mark.parametrize(
    ("interval", "verdict"),
    [([-0.0003, 0.0002], "reproduced"), ([-0.003, -0.001], "not reproduced"), ([-0.001, 0.001], "not comparable")],
)
def test_a_loss_is_checked_by_its_whole_interval(interval: list[float], verdict: str) -> None:
    """Less than 0.0004 lost: all of the interval, none of it, or this run cannot tell."""

    def change(result: Result) -> None:
        score = {"value": sum(interval) / 2, "interval": interval, "n": 160}
        result["accuracy"][HEADLINE]["difference"]["mean_iou"] = score

    found = by_baseline(draw_result(change=change), "iou-loss")["LiteRT FP32, 4 threads"]
    assert found.verdict == verdict
    assert ("this run cannot tell" in str(found)) == (verdict == "not comparable")


def test_scores_of_a_baseline_with_its_own_entry_are_paired_by_image() -> None:
    """Keras, scored on the same images, gets a verdict from both models' images though the result compared LiteRT."""

    def score_keras(result: Result) -> None:
        result["accuracy"]["keras-fp32"] = result["accuracy"][FP32]

    found = by_baseline(draw_result(change=score_keras), "iou-loss")
    keras, litert = (found[name] for name in ("Keras FP32 (tf.function)", "LiteRT FP32, 4 threads"))
    drops = [re.search(r"a drop of (−?[\d.]+)", to_plain(one.reason)) for one in (keras, litert)]
    assert drops[0] and drops[1] and drops[0][1] == drops[1][1]


def test_the_papers_accuracy_cannot_be_compared() -> None:
    """Its test images are not published; the verdict gives that reason, and this run's own figure."""
    (found,) = by_baseline(draw_result(), "mean-iou").values()
    value = draw_result()["accuracy"][FP32]["mean_iou"]["value"]
    assert found.verdict == "not comparable" and "not published" in str(found) and f"{value:.4f}" in str(found)


def test_claims_about_another_net_are_not_comparable() -> None:
    """A net of other size is not the paper's: the number of parameters is the reason."""

    def shrink(result: Result) -> None:
        result["model"]["parameters"] = 3_117_113

    (found,) = by_baseline(draw_result(change=shrink), "file-size").values()
    assert found.verdict == "not comparable" and "3,117,113 parameters" in str(found)
    (unknown,) = by_baseline(draw_result(change=lambda one: one["model"].update(parameters=None)), "file-size").values()
    assert "were not counted" in str(unknown)


def test_an_invalid_run_reproduces_nothing() -> None:
    """Every claim is 'not comparable: the run is invalid'; of an inconclusive run those about time."""
    invalid = draw_result(validity={"status": "invalid", "reasons": ["throttled"]})
    assert {verdict.verdict for verdict in check_claims(invalid, PAPER)} == {"not comparable"}
    inconclusive = draw_result(validity={"status": "inconclusive", "reasons": ["busy"]})
    verdicts = {verdict.claim.id: str(verdict) for verdict in check_claims(inconclusive, PAPER)}
    assert "the run is inconclusive" in verdicts["latency-reduction"]
    assert "reproduced" in verdicts["size-reduction"]


# Claims of one's own


@pytest.mark.parametrize(
    ("fields", "verdict"),
    [
        ({}, "reproduced"),
        ({"at_least": 0.9}, "not reproduced"),
        ({"at_least": None, "at_most": 0.9}, "reproduced"),
        ({"recipe": "int8"}, "not comparable"),
        ({"figure": "memory"}, "reproduced"),
        ({"figure": "dice", "kind": "value", "against": None}, "reproduced"),
        ({"figure": "p90", "kind": "value", "against": None, "at_least": None, "at_most": 100}, "not reproduced"),
        ({"against": '[{ engine = "openvino", recipe = "fp32" }]'}, "not comparable"),
        ({"data": "'" + "5d" * 32 + "'"}, "reproduced"),
        ({"data": "'" + "00" * 32 + "'"}, "not comparable"),
    ],
)
def test_own_claims(fields: dict[str, Any], verdict: str, tmp_path: Path) -> None:
    """Times, sizes, memory and scores can be claimed, against any baseline of the result or none."""
    fields = {name: value.strip("'") if name == "data" else value for name, value in fields.items()}
    (found,) = check_claims(draw_result(), write_claims(tmp_path / "claims.toml", **fields))
    assert found.verdict == verdict, str(found)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"figur": "p50"}, "unknown field 'claim.0.figur' (did you mean 'figure'?)"),
        ({"figure": "p91"}, "claim.0.figure is 'p91', not one of size, memory, p50, p90, p95, p99, mean, "),
        ({"kind": "reductoin"}, "did you mean 'reduction'?"),
        ({"figure": "iou"}, 'a reduction of lesion_iou; write kind = "drop"'),
        ({"kind": "drop"}, 'a drop of p50; write kind = "reduction"'),
        ({"kind": "value"}, "a value has a baseline"),
        ({"against": None}, "a reduction has no baseline"),
        (
            {"against": '[{ engin = "keras", recipe = "fp32" }]'},
            "unknown field 'claim.0.against.0.engin' (did you mean 'engine'?)",
        ),
        ({"against": '[{ engine = "keras" }]'}, "field 'claim.0.against.0.recipe' is missing"),
        ({"at_most": 1}, "either at_least or at_most"),
        ({"at_least": None}, "either at_least or at_most"),
        ({"at_least": "much"}, "claim.0.at_least is 'much', not a finite number"),
        ({"at_least": "[nan]"}, "claim.0.at_least is [nan], not a finite number"),
        ({"rounding": -1}, "claim.0.rounding is -1, not a number of 0 or more"),
        ({"parameters": "[3, 2]"}, "parameters is not [least, most]"),
        ({"data": "unpublised"}, "did you mean 'unpublished'?"),
        ({"says": None}, "field 'claim.0.says' is missing"),
        ({"says": " "}, "claim.0.says is ' ', not a text"),
        ({"figure": "p91"}, "did you mean 'p9"),
    ],
)
def test_the_reader_is_strict(fields: dict[str, Any], words: str, tmp_path: Path) -> None:
    """What a claims file may not say is refused in one line with the near miss."""
    with pytest.raises(EdgeSegError, match=re.escape(words)) as caught:
        read_claims(write_claims(tmp_path / "claims.toml", **fields))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("format = ", "not valid TOML"),
        ('format = "edge-seg-claims/2"\ntitle = "x"', "this version reads 'edge-seg-claims/1'"),
        ('format = "edge-seg-claims/1"', "field 'title' is missing"),
        ('format = "edge-seg-claims/1"\ntitle = "x"', "field 'claim' is missing"),
        ('format = "edge-seg-claims/1"\ntitle = "x"\nclaim = []', "it has no [[claim]]"),
        ('format = "edge-seg-claims/1"\ntitle = "x"\nclaims = []', "did you mean 'claim'?"),
    ],
)
def test_files_that_are_none(text: str, words: str, tmp_path: Path) -> None:
    """Broken TOML, another format, no claims: one line."""
    with pytest.raises(EdgeSegError, match=re.escape(words)):
        read_claims(write_claims(tmp_path / "claims.toml", text))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    """A missing file is named."""
    with pytest.raises(EdgeSegError, match=r"nothing\.toml: No such file"):
        read_claims(tmp_path / "nothing.toml")
