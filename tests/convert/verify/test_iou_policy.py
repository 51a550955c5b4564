"""The policy's verdicts: what meets it, what does not, and what cannot be told."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from convert.verify.compare_on_images import Agreement, ImageSetCheck, Score
from convert.verify.iou_policy import check_policy_options, judge_policy
from edge_runtime.errors import UsageError


def make_check(
    drop: float, low: float, high: float, images: int = 80, lesions: int = 60, absent: tuple[str, ...] = ()
) -> ImageSetCheck:
    scores = (Score("mean_iou", 0.8, 0.8, 0.8 - drop, drop, low, high),)
    same = Agreement(0.0, 1.0)
    return ImageSetCheck(
        "masks", images, lesions, ("background", "lesion"), absent, scores, same, same, (), (), (), (), 0.5
    )


def test_the_drop_itself_decides_and_the_interval_says_how_surely() -> None:
    """At most the limit is met, above is not; the interval on one side of it is sure, across it is not enough."""
    sure = judge_policy(make_check(0.0001, -0.0001, 0.0003), 0.0004)
    assert (sure.met, sure.sure) == (True, True)
    assert "at most 0.0004" in sure.why
    assert "not enough" not in sure.why
    unsure = judge_policy(make_check(0.0001, -0.0005, 0.0007), 0.0004)
    assert (unsure.met, unsure.sure) == (True, False)
    assert "not enough images to tell, some 300 would" in unsure.why
    lost = judge_policy(make_check(0.01, 0.008, 0.012), 0.0004)
    assert (lost.met, lost.sure) == (False, True)
    assert "mean IoU drops by 0.01 (95 % interval 0.008 to 0.012) on 80 images, more than 0.0004" in lost.why
    doubtful = judge_policy(make_check(0.0006, -0.0001, 0.0012), 0.0004)
    assert (doubtful.met, doubtful.sure) == (False, False)


def test_a_strict_policy_is_met_by_the_whole_interval_alone() -> None:
    """A drop below the limit whose interval reaches above it does not meet it, and the images are too few to tell."""
    unsure = judge_policy(make_check(0.0001, -0.0005, 0.0007), 0.0004, strict=True)
    assert (unsure.met, unsure.sure, unsure.known) == (False, False, True)
    assert "on 80 images, not surely at most 0.0004; not enough images to tell" in unsure.why
    met = judge_policy(make_check(0.0001, -0.0001, 0.0004), 0.0004, strict=True)
    assert (met.met, met.sure) == (True, True)
    assert "on 80 images, at most 0.0004" in met.why
    lost = judge_policy(make_check(0.01, 0.008, 0.012), 0.0004, strict=True)
    assert (lost.met, lost.sure) == (False, True)
    assert "more than 0.0004" in lost.why
    assert not judge_policy(make_check(0.0, math.nan, math.nan), 0.0004, strict=True).met


def test_the_limit_itself_is_met_and_gains_are() -> None:
    """A drop of exactly the limit meets it, and so does a result that is better than the original."""
    assert judge_policy(make_check(0.0, 0.0, 0.0), 0.0).met
    assert judge_policy(make_check(-0.01, -0.02, -0.005), 0.0).met
    assert not judge_policy(make_check(0.0, 0.0, 0.0), -0.1).met


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (make_check(0.0, math.nan, math.nan, images=9), "not enough images to tell: 9, at least 10"),
        (make_check(0.0, 0.0, 0.0, images=50, lesions=4), "masks show a lesion on 4, at least 5"),
        (make_check(math.nan, math.nan, math.nan, images=50, lesions=0), "show a lesion on 0"),
        (make_check(math.nan, math.nan, math.nan), "is no number"),
        (make_check(math.nan, math.nan, math.nan, absent=("background",)), "masks show nothing but lesion"),
        (replace(make_check(0.0, 0.0, 0.0, lesions=1), truth="keras"), "Keras' masks show a lesion on 1"),
    ],
)
def test_what_cannot_be_known_is_never_met(check: ImageSetCheck, words: str) -> None:
    """Too few images, too few lesions, or no number: the policy is not met, however small the drop looks."""
    verdict = judge_policy(check, 0.9)
    assert (verdict.met, verdict.known, verdict.sure) == (False, False, False)
    assert words in verdict.why


@pytest.mark.parametrize(
    ("limit", "images", "masks", "words"),
    [
        (0.1, None, None, "--max-iou-drop: there are no images"),
        (None, None, "masks", "--masks: there are no images"),
        (math.nan, "images", None, "not between -1 and 1"),
        (math.inf, "images", None, "not between -1 and 1"),
    ],
)
def test_options_that_cannot_be_meant_are_refused(
    limit: float | None, images: str | None, masks: str | None, words: str
) -> None:
    """A policy or masks without images, and a limit that is no share, are usage errors of one line."""
    with pytest.raises(UsageError, match=words):
        check_policy_options(limit, images, masks)
    check_policy_options(0.0004, "images", "masks")
    check_policy_options(None, None, None)
