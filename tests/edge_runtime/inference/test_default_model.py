"""The embedded model: small, stamped, described by its card, and as good as the card states."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path

import numpy as np
import pytest

from edge_runtime import Session
from edge_runtime.contract.tail import read_contract
from edge_runtime.models import DEFAULT
from evidence.document import to_markdown
from reference.data.phantom import draw_phantom
from reference.evaluation.predict import evaluate, find_slices, load_predictor
from reference.evaluation.report import render_report
from reference.evaluation.slice_scores import Scores, rename_scores

ROOT = Path(__file__).parents[3]
RECORD = ROOT / "records" / "default-model"
DATA = Path(os.environ.get("EDGE_SEG_DATA", ROOT.parent / "shared" / "data"))
CARD = DEFAULT.with_name("MODEL_CARD.md")


def test_it_is_small_and_stamped() -> None:
    """The model weighs at most 4 MB and carries a contract with its quality and its intended use."""
    contract = read_contract(DEFAULT, verify=True)
    assert DEFAULT.stat().st_size <= 4_000_000
    assert contract.recipe == "drq"
    assert contract.quality is not None and contract.quality["n"] > 0
    assert "not a medical device" in contract.intended_use.lower()


def test_card_and_contract_have_the_same_numbers() -> None:
    """Each figure of the contract's quality is in the model card, to three digits."""
    contract = read_contract(DEFAULT)
    text = CARD.read_text("utf-8")
    assert contract.quality is not None
    figures = {key: value for key, value in contract.quality.items() if isinstance(value, float)}
    assert figures
    missing = {key: value for key, value in figures.items() if f"{value:.3f}" not in text}
    assert not missing
    assert "CC BY 4.0" in text and "not a medical device" in text.lower()


def test_card_has_the_scores_of_the_evaluation() -> None:
    """The committed evaluation is of this file, and its scores by class and size are in the card with intervals."""
    facts = rename_scores(json.loads((RECORD / "evaluation.json").read_text("utf-8")))
    assert facts["model"]["sha256"] == hashlib.sha256(DEFAULT.read_bytes()).hexdigest()
    text = CARD.read_text("utf-8")
    for scores in (facts["thresholds"][0]["scores"], *facts["classes"].values(), *facts["sizes"].values()):
        for name in ("lesion_iou", "dice"):
            low, high = scores[name]["interval"]
            assert f"{scores[name]['value']:.3f} ({low:.3f} to {high:.3f})" in text
    covered = facts["stress"]["covered"]
    assert f"{covered['marked_after']['value']:.1%}".replace("%", " %") in text
    missed = facts["failures"]["missed"]
    assert f"{missed['slices']} of {missed['of']} lesions" in text
    assert to_markdown(render_report(facts)) == (RECORD / "evaluation.md").read_text("utf-8")


def test_it_finds_drawn_lesions() -> None:
    """On drawn slices it has not seen, most lesions are found and most tumour-free slices stay empty."""
    session, scores = Session.load(), Scores()
    for seed in range(40):
        drawn = draw_phantom(
            np.random.default_rng(10_000 + seed), ("glioma", "meningioma", "pituitary", "none")[seed % 4]
        )
        scores.add(session.segment(drawn.image).mask, drawn.mask, drawn.kind)
    found = scores.summary()
    assert found["dice"] > 0.6
    assert found["false_alarms"] <= 0.3


@pytest.mark.skipif(not (DATA / "t1ce_tumor").is_dir(), reason="the MRI slices are not here (EDGE_SEG_DATA)")
def test_card_holds_on_held_out_patients() -> None:
    """BinaryIoU and Dice on every fourth slice of the held-out patients are near the card's figures."""
    folder = DATA / "t1ce_tumor"
    patients = (RECORD / "validation-patients.txt").read_text().split("\n")
    slices = find_slices(folder / "images", folder / "masks", folder / "labels.csv", patients)[::4]
    predict, threshold = load_predictor(DEFAULT)
    found = evaluate(predict, slices, [threshold])[threshold]
    quality = read_contract(DEFAULT).quality
    assert quality is not None
    # A quarter of the slices: their own spread is larger than any difference between machines.
    assert found["mean_iou"] == pytest.approx(quality["binary_io_u"], abs=0.03)
    assert found["dice"] == pytest.approx(quality["dice"], abs=0.05)
