"""Results of the first format: read with the names of today, distinguished by nothing else, and quoted by their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks.report.blocks import count_numbers
from benchmarks.report.sizing import Workload
from benchmarks.report.write import make_report
from benchmarks.result.file import read_result, write_result
from benchmarks.result.lookup import find
from benchmarks.verdicts.claims_file import PAPER, read_claims
from benchmarks.verdicts.compare import compare_results
from benchmarks.verdicts.gate import list_failed, parse_gates

RECORD = Path(__file__).parents[3] / "records" / "default-benchmark" / "result.json"
SCORES = {"iou": "lesion_iou", "binary_iou": "mean_iou", "dice": "dice", "hd95_px": "hd95_px"}
COUNTS = {"hit": "tp", "false": "fp", "missed": "fn", "rest": "tn", "iou": "lesion_iou", "file": "file"}


@pytest.fixture(scope="module")
def written() -> Any:
    """The committed file as it stands, of the first format."""
    result = json.loads(RECORD.read_text("utf-8"))
    assert result["format"] == "edge-seg-benchmark/1"
    return result


def test_scores_and_counts_have_the_names_of_today(written: Any) -> None:
    """Every value has its new name; all other fields are unchanged."""
    result = read_result(RECORD)
    for key, entry in written["accuracy"].items():
        for old, new in SCORES.items():
            assert result["accuracy"][key][new] == entry[old]
            for part in ("difference", "agreement"):
                if entry.get(part) and old in entry[part]:
                    assert result["accuracy"][key][part][new] == entry[part][old]
        for row, before in zip(result["accuracy"][key]["per_image"], entry["per_image"], strict=True):
            assert {new: row[new] for new in COUNTS.values()} == {new: before[old] for old, new in COUNTS.items()}
    for name in written.keys() - {"accuracy", "worst"}:
        assert result[name] == written[name]


def test_the_report_cites_the_file_that_was_read(written: Any) -> None:
    """Each figure's source is a path that leads through the file as it stands."""
    report = make_report(read_result(RECORD), Workload(), PAPER)
    paths = {path for _, one in count_numbers(report).values() for path in one.paths}
    assert any(".binary_iou." in path for path in paths)
    assert [path for path in sorted(paths) if find(written, path) is None] == []
    formulas = [one.id for _, one in count_numbers(report).values()]
    assert any("binary_iou of accuracy." in text for text in formulas)
    assert not any("mean_iou" in text or "lesion_iou" in text for text in formulas)


def test_both_formats_are_compared(tmp_path: Path) -> None:
    """The same run in the format of today is no other run; gates are taken by both names."""
    old = read_result(RECORD)
    write_result(tmp_path / "result.json", {**old, "format": "edge-seg-benchmark/2"})
    text = (tmp_path / "result.json").read_text()
    assert '"mean_iou"' in text and "binary_iou" not in text and '"hit"' not in text
    comparison = compare_results([old, read_result(tmp_path / "result.json")])
    assert comparison.dimension == "repeat"
    found = {row.figure: row.changes[1] for row in comparison.rows if row.is_subject}
    for figure in ("p50", "lesion_iou", "mean_iou", "dice"):
        change = found[figure]
        assert change is not None and change.verdict == "no difference"
    assert list_failed(comparison, "iou=0,binary_iou=0,dice=0") == []
    assert parse_gates("iou=0.001,p90=5%") == parse_gates("lesion_iou=0.001,p90=5%")


def test_claims_of_earlier_files_are_read(tmp_path: Path) -> None:
    """A claims file may say binary_iou and iou."""
    text = '[[claim]]\nid = "{}"\nsays = "so"\nrecipe = "drq"\nfigure = "{}"\nkind = "value"\nat_least = 0.5\n'
    path = tmp_path / "claims.toml"
    entries = "".join(text.format(k, name) for k, name in enumerate(("iou", "binary_iou", "mean_iou")))
    path.write_text(f'format = "edge-seg-claims/1"\ntitle = "t"\n{entries}')
    assert [claim.figure for claim in read_claims(path)[1]] == ["lesion_iou", "mean_iou", "mean_iou"]
