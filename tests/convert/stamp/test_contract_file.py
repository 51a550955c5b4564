"""The contract file a user may put beside a model: strictly read, every mistake named."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from messages import make_facts

from convert.stamp.contract_file import Settings, build_contract, find_settings, read_settings
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
    assert contract.quality == {"n": 2, "split": "s", "dice": 0.5}
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
