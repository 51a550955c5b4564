"""The policy `--max-iou-drop`: how much mean IoU a conversion may cost, and whether the images can tell.

The drop is Keras' mean IoU minus the result's, over all pixels of all images (with two labels: Keras' BinaryIoU); with
no masks, Keras' own masks are the truth, so its mean IoU is 1. The policy is met where the drop is at most the limit.
It is never met where the drop cannot be known: an output that is no number, fewer than MIN_IMAGES images, or fewer than
MIN_LESIONS that show a lesion.

The drop is these images'; that of others lies in its 95 % interval. Where the limit lies in there too, the images
cannot tell, and the drop itself still decides: to tell 0.0004 from nothing takes hundreds of images, which few have.
But the verdict then says that there are not enough, and how many would be. With `--sure` such a drop does not meet the
policy: the whole interval has to lie at or below the limit. It narrows as layers are left float, so that what hurts is
kept float until the images can tell; a drop alone would be met by the layers that happen to please these images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.errors import PolicyError, UsageError

from .check import MIN_IMAGES, MIN_LESIONS, Check

MOST_WANTED = 100_000  # images: more is no advice


@dataclass(frozen=True)
class Verdict:
    """Whether the policy is met, whether the images can tell, and why in words."""

    limit: float
    drop: float
    low: float
    high: float
    met: bool
    known: bool  # the images can tell a drop at all
    sure: bool  # the interval lies on one side of the limit
    strict: bool  # it had to, for the policy to be met
    why: str


def check_limit(limit: float | None, images: object, masks: object, strict: bool = False) -> None:
    """Refuse options that mean nothing without another, and a limit that is no share.

    Raises:
        UsageError: what to add or to mend.
    """
    for option, value in (("--max-iou-drop", limit), ("--masks", masks)):
        if value is not None and images is None:
            raise UsageError(option, "there are no images to check on", "say --check IMAGES too")
    if strict and limit is None:
        raise UsageError("--sure", "there is no policy to be sure of", "say --max-iou-drop X too")
    if limit is not None and not -1 <= limit <= 1:  # false for NaN
        raise UsageError(f"--max-iou-drop {limit}", "it is not between -1 and 1", "give a drop such as 0.0004")


def refuse_few(what: str, images: int, limit: float | None) -> None:
    """Refuse, before any work, a policy that so few images cannot decide.

    Raises:
        PolicyError: there is a policy, and there are too few.
    """
    if limit is not None and images < MIN_IMAGES:
        raise PolicyError(
            what, f"the policy cannot be met: {too_few(images)}", "give more, or leave --max-iou-drop out"
        )


def judge(check: Check, limit: float, strict: bool = False) -> Verdict:
    """Return the policy's verdict on a check; strict: of the interval, not of the drop."""
    iou = check.iou
    doubt = find_doubt(check)
    met = not doubt and (iou.high if strict else iou.drop) <= limit
    sure = not doubt and (iou.high <= limit if met else iou.low > limit)
    relation = "at most" if met else "not surely at most" if iou.drop <= limit else "more than"
    why = doubt or f"{say_drop(check)}, {relation} {limit:g}"
    if not doubt and not sure:
        why += f"; not enough images to tell{say_wanted(check, limit)}"
    return Verdict(limit, iou.drop, iou.low, iou.high, met, not doubt, sure, strict, why)


def find_doubt(check: Check) -> str:
    """Return why the drop cannot be known; "" where it can."""
    truth = "masks" if check.truth == "masks" else "Keras' masks"
    if check.images < MIN_IMAGES:
        return too_few(check.images)
    if check.lesions < MIN_LESIONS:
        return f"not enough images to tell: {truth} show a lesion on {check.lesions}, at least {MIN_LESIONS} must"
    if len(check.absent) > len(check.labels) - 2:
        only = next(name for name in check.labels if name not in check.absent)
        return f"not enough images to tell: {truth} show nothing but {only}"
    return "the drop of mean IoU is no number" if math.isnan(check.iou.drop) else ""


def too_few(images: int) -> str:
    """Return what is wrong with so few images."""
    return f"not enough images to tell: {images}, at least {MIN_IMAGES} are needed"


def say_drop(check: Check) -> str:
    """Return the drop in words, with its interval and what it is a drop of."""
    iou = check.iou
    between = "" if math.isnan(iou.low) else f" (95 % interval {iou.low:.2g} to {iou.high:.2g})"
    truth = "" if check.truth == "masks" else ", Keras' own masks taken for the truth"
    return f"mean IoU drops by {iou.drop:.2g}{between} on {check.images} images{truth}"


def say_wanted(check: Check, limit: float) -> str:
    """Return how many images would tell: an interval narrows with the square root of their number."""
    iou = check.iou
    half, distance = (iou.high - iou.low) / 2, abs(limit - iou.drop)
    if math.isnan(half) or not distance:
        return ""
    wanted = check.images * max(2.0, (half / distance) ** 2)
    return "" if wanted > MOST_WANTED else f", some {float(f'{wanted:.1g}'):.0f} would"
