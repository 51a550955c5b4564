"""The contract file a user may put beside a model: strictly read, every mistake named."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from messages import make_facts

from convert.stamp.contract_file import (
    KEYS,
    Settings,
    build_contract,
    choose_labels,
    find_settings,
    read_settings,
)
from edge_runtime.errors import ContractError


def build(settings: Settings) -> Any:
    return build_contract(make_facts(), settings, Path("net.keras"), "ab" * 32)


def test_defaults() -> None:
    """Without a file the contract says: the stem, the source's digest, one lesion, one half, not a device."""
    contract = build(Settings())
    assert (contract.model.id, contract.model.version) == ("net", "abababababab")
    assert (contract.threshold.value, contract.threshold.from_) == (0.5, "default")
    assert "not a medical device" in contract.intended_use
    assert contract.quality is None


def test_what_is_said_is_taken(tmp_path: Path) -> None:
    """Every key of the file arrives in the contract."""
    path = tmp_path / "net.contract.toml"
    path.write_text(
        'id = "a"\nversion = "2"\nthreshold = {value = 0.25, from = "validation"}\nintended_use = "x"\n'
        'labels = [{name = "cyst", colour = [1, 2, 3]}]\nquality = {n = 2, split = "s", dice = 0.5}\n'
    )
    settings = find_settings(tmp_path / "net.keras")
    contract = build(settings)
    assert (contract.model.id, contract.model.version, contract.threshold.from_) == ("a", "2", "validation")
    assert contract.output.labels[0].name == "cyst"
    assert contract.quality == {"n": 2, "split": "s", "dice": 0.5, "series": None}
    assert find_settings(tmp_path / "other.keras") == Settings()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("treshold = 0.5", "unknown contract field 'treshold'; did you mean 'threshold'?"),
        ("path = 'x'", "unknown contract field 'path'"),
        ("threshold = ", "cannot be read"),
        ("threshold = 2", "'threshold.value' is 2"),
        ("threshold = true", "'threshold.value' is True"),
        ("threshold = {value = 0.5}", "not a number or {value, from}"),
        ("scale = '1'", "'scale' is not a number"),
        ("colour = 'rgb'", "has 1 channels, but colour 'rgb' means 3"),
        ("colour = 'gray'", "did you mean 'grey'?"),
        ("activation = 'relu'", "not one of sigmoid, softmax"),
        ("labels = ['a']", "not a list of {name, colour"),
        ("labels = []", "sigmoid takes 1 to 255 labels"),
        ("quality = {dice = 0.5}", "'quality.n' is missing"),
        ("id = 3", "'model.id' is not a printable text"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, text: str, words: str) -> None:
    """A wrong key or value is one line that names the file and the field."""
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        build(read_settings(path))
    assert words in str(caught.value), caught.value
    assert str(caught.value).startswith(str(path))


def test_the_page_has_every_key_and_its_toml_is_read(tmp_path: Path) -> None:
    """docs/contract.md names each key of a contract file, and each of its TOML examples gives a contract."""
    page = (Path(__file__).parents[3] / "docs" / "contract.md").read_text("utf-8")
    rows = [line.split("|")[1] for line in page.split("##")[1].splitlines() if "|" in line]
    keys = re.findall(r"`(\w+)`", " ".join(rows))
    assert set(KEYS) == set(keys) - {"key"}
    for example in re.findall(r"```toml\n(.*?)```", page, re.S):
        path = tmp_path / "c.toml"
        path.write_text(example)
        assert len(read_settings(path).labels or ()) == 3
    table = page.split("| trained on |")[1].split("\n\n")[0]
    rows = re.findall(r"^\| [^|]+ \| `([^`]+)` \| `([^`]+)` \| (?:`([^`]+)`)? ?\|$", table, re.M)
    assert len(rows) == 6
    for scale, offset, intensity in rows:
        path.write_text(f"scale = {scale}\noffset = {offset}\n" + (f"intensity = {intensity}\n" if intensity else ""))
        read_settings(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("scale = 0", "'scale' is 0, not above 0"),
        ("scale = [1.0, 'a', 2.0]", "'scale' is not a number, or a list of numbers"),
        ("offset = nan", "not a finite number"),
        ("intensity = 'zscore'", "did you mean 'z-score'?"),
        ("intensity = {percentiles = [99, 1]}", "ascending order"),
        ("intensity = {picture = 'z-score'}", "{percentiles} or {window}"),
        ("channels = ['a', 'a']", "has a name twice"),
        ("acquisition = {weighting = 'T1'}", "'acquisition.modality' is missing"),
        ("acquisition = {modality = 'MR', contrast = 'perhaps'}", "not one of yes, no"),
        ("quality = {n = 2, split = 's', when = 2026-01-01}", "'quality.when' is datetime.date"),
        ("quality = {n = 2, split = 's', series = {count = 0, false_ml_max = 1}}", "'quality.series.count' is 0"),
        ("labels = [{name = 'a', colour = [1, 2, 300]}]", "300"),
        ("intended_use = ''", "'intended_use' is not a printable text"),
    ],
)
def test_what_no_contract_can_have_is_refused_before_a_conversion(tmp_path: Path, text: str, words: str) -> None:
    """Reading the file already refuses it: no model is loaded for nothing."""
    path = tmp_path / "c.toml"
    path.write_text(text)
    with pytest.raises(ContractError) as caught:
        read_settings(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert words in str(caught.value)


def test_labels_without_colours_take_them_from_the_palette() -> None:
    """The background is black, and no two lesions look alike."""
    labels = choose_labels(Settings(labels=[{"name": name} for name in "abcd"]), 4, "softmax")
    assert labels[0].colour == (0, 0, 0)
    assert len({label.colour for label in labels}) == 4
