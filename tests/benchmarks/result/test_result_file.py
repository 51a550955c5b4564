"""The result file: what is written is read back, and what does not fit is refused with the place and the near miss."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import drawn_result
import pytest

from benchmarks.result.file import check_result, compute_id, read_result, write_result
from edge_runtime.errors import EdgeSegError

Result = dict[str, Any]
Edit = Callable[[Result], None]


@cache
def draw_once() -> Result:
    return drawn_result.draw_result()


def draw_result(change: Edit | None = None) -> Result:
    result = copy.deepcopy(draw_once())
    if change:
        change(result)
    return result


def test_a_result_is_read_as_it_was_written(tmp_path: Path) -> None:
    """And its id is the SHA-256 of its canonical JSON, by an oracle of two lines."""
    written = write_result(tmp_path / "deep/result.json", draw_result())
    assert read_result(tmp_path / "deep/result.json") == written
    rest = {name: value for name, value in written.items() if name != "id"}
    text = json.dumps(rest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    assert written["id"] == hashlib.sha256(text.encode()).hexdigest()[:16]


def test_a_sample_is_one_line_and_texts_stay_as_they_are(tmp_path: Path) -> None:
    """Ten thousand samples are ten thousand lines; what looks like numbers in a text is not touched."""
    written = write_result(tmp_path / "r.json", draw_result(change("validity.reasons", ["[ 1,  2 ]", "[\n1]"])))
    assert read_result(tmp_path / "r.json")["validity"] == written["validity"]
    first = written["subjects"]["drq-litert-1"]["latency"]["samples"][0]
    lines = (tmp_path / "r.json").read_text().splitlines()
    assert f"[ {first[0]}, {first[1]} ]," in [line.strip() for line in lines]


def test_the_file_is_one_json_object_without_nan(tmp_path: Path) -> None:
    """UTF-8, whole, and nothing beside it."""
    write_result(tmp_path / "result.json", draw_result())
    assert [path.name for path in tmp_path.iterdir()] == ["result.json"]
    json.loads((tmp_path / "result.json").read_bytes(), parse_constant=lambda name: pytest.fail(name))


def change(path: str, value: Any) -> Edit:
    """Sets what a path leads to; `value` ... takes it out."""

    def apply(result: Result) -> None:
        *steps, last = path.split(".")
        place: Any = result
        for step in steps:
            place = place[int(step) if isinstance(place, list) else step]
        if value is ...:
            del place[last]
        else:
            place[int(last) if isinstance(place, list) else last] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("validity", ..., "field 'validity' is missing"),
        ("subjects.drq-litert-2.latency.p50_ms", ..., "'subjects.drq-litert-2.latency.p50_ms' is missing"),
        (
            "subjects.drq-litert-2.latency.p50",
            3.0,
            "unknown field 'subjects.drq-litert-2.latency.p50' (did you mean 'p50_ms'?",
        ),
        ("setings", {}, "unknown field 'setings' (did you mean 'settings'?"),
        ("subjects.drq-litert-2.status", "okay", "did you mean 'ok'"),
        ("subjects.drq-litert-2.latency.p50_ms", -1.0, "not a number of 0 or more"),
        ("subjects.drq-litert-2.latency.n", True, "not a whole number"),
        ("subjects.drq-litert-2.latency.samples.3", [1], "samples.3 is [1], not a list of 2"),
        ("subjects.Drq", {}, "the key 'Drq'"),
        ("pairs.0.verdict", "fastest", "not one of faster, slower"),
        ("pairs.0.subject", "drq-litert-9", "pairs.0.subject names 'drq-litert-9', which was not measured"),
        ("pairs.0.baseline", "openvino-fp32", "'openvino-fp32', which was not measured"),
        ("accuracy.drq-litert-4.against", "fp32-litert-8", "'fp32-litert-8', which was not measured"),
        ("soak.verdict", "leaks", "not one of flat, grows"),
        ("created", "yesterday", "created is 'yesterday', not a UTC time"),
        ("data.sha256", "5D" * 32, "not a SHA-256"),
        ("data.sizes", {"512": 3}, "the key '512'"),
        ("worst.0.picture", None, "worst.0.picture is None, not a text"),
        ("model", [], "model is not an object"),
        ("machine.during", {}, "machine.during is not a list"),
        ("format", "edge-seg-benchmark/3", "its format is 'edge-seg-benchmark/3'"),
    ],
)
def test_what_does_not_fit_is_named(path: str, value: Any, words: str) -> None:
    """One line with the place, what stands there and what should."""
    with pytest.raises(EdgeSegError) as caught:
        check_result(draw_result(change=change(path, value)), "a.json")
    assert words in str(caught.value) and str(caught.value).startswith("a.json: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("found", [[], None, "x", 3, {}])
def test_anything_else_is_no_result(found: Any) -> None:
    """Whatever JSON can hold."""
    with pytest.raises(EdgeSegError, match="not a valid"):
        check_result(found)


def test_an_absent_subject_has_a_reason_and_no_figures() -> None:
    """A figure beside "absent" would be one that was not measured."""
    check_result(draw_result())
    with pytest.raises(EdgeSegError, match=r"unknown field 'subjects\.openvino-fp32\.load_ms'"):
        check_result(draw_result(change=change("subjects.openvino-fp32.load_ms", 1.0)))


def test_an_edited_file_is_refused(tmp_path: Path) -> None:
    """The id does not fit any more."""
    path = tmp_path / "result.json"
    write_result(path, draw_result())
    path.write_text(path.read_text().replace("Raspberry Pi 5", "Raspberry Pi 9"))
    with pytest.raises(EdgeSegError, match="edited after it was written"):
        read_result(path)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not valid JSON"),
        (b'{"format": NaN}', "NaN is no number"),
        (b'{"format": 1, "format": 2}', "stands twice"),
        (b"\xff\xfe", "not UTF-8"),
        (b"[" * 100_000, "not valid JSON"),
    ],
)
def test_files_that_are_no_json_are_refused(tmp_path: Path, data: bytes, words: str) -> None:
    """In one line."""
    (tmp_path / "r.json").write_bytes(data)
    with pytest.raises(EdgeSegError) as caught:
        read_result(tmp_path / "r.json")
    assert words in str(caught.value)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    """By name."""
    with pytest.raises(EdgeSegError, match="No such file"):
        read_result(tmp_path / "none.json")


def test_nan_is_not_written(tmp_path: Path) -> None:
    """Nothing is left behind."""
    with pytest.raises(EdgeSegError):
        write_result(tmp_path / "r.json", draw_result(change=change("soak.slope_bytes_per_run", float("nan"))))
    assert list(tmp_path.iterdir()) == []


def test_the_id_does_not_depend_on_the_order_of_fields() -> None:
    """Canonical JSON sorts them."""
    result = draw_result()
    assert compute_id(dict(reversed(result.items()))) == compute_id(result)
