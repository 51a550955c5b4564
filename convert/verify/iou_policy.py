"""Does a conversion meet the policy `--max-iou-drop`, and are there enough images to know?

The drop is Keras' mean IoU minus the result's, over all pixels of all images (with two labels: Keras' BinaryIoU).
Without masks, Keras' masks are the truth, so its mean IoU is 1. The policy is met where the drop is at most the limit.
It is never met where the drop cannot be known: an output is not finite, there are fewer than MIN_IMAGES images, or
fewer than MIN_LESIONS that show a lesion.

The drop is that of these images; that of others is expected in its 95 % interval. Where the limit is inside the
interval, the number of images is too small to decide surely, and the drop decides: to tell 0.0004 from 0 takes hundreds
of images, which few users have. The verdict then notes that, and how many images would be needed. With `--sure` such a
drop does not meet the policy: the whole interval must be at or below the limit. The interval narrows as layers are left
float, so layers are left float until it is; the drop alone could be met by a choice of layers that suits only these
images.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from edge_runtime.errors import PolicyError, UsageError

from .compare_on_images import MIN_IMAGES, MIN_LESIONS, ImageSetCheck

MAX_SUGGESTED_IMAGES = 100_000  # larger numbers are not suggested


@dataclass(frozen=True)
class PolicyVerdict:
    """Whether the policy is met, how sure that is, and why."""

    limit: float
    drop: float
    low: float
    high: float
    met: bool
    known: bool  # the drop could be measured
    sure: bool  # the interval is on one side of the limit
    strict: bool  # --sure: the whole interval must be at most the limit
    why: str


def check_policy_options(limit: float | None, images: object, masks: object, strict: bool = False) -> None:
    """Check options that need another one, and the limit.

    Raises:
        UsageError: with what to add or to change.
    """
    for option, value in (("--max-iou-drop", limit), ("--masks", masks)):
        if value is not None and images is None:
            raise UsageError(option, "there are no images to check on", "say --check IMAGES too")
    if strict and limit is None:
        raise UsageError("--sure", "there is no policy to be sure of", "say --max-iou-drop X too")
    if limit is not None and not -1 <= limit <= 1:  # false for NaN
        raise UsageError(f"--max-iou-drop {limit}", "it is not between -1 and 1", "give a drop such as 0.0004")


def refuse_few(what: str, images: int, limit: float | None) -> None:
    """Raise PolicyError, before any work, if there is a policy and too few images to decide it."""
    if limit is not None and images < MIN_IMAGES:
        raise PolicyError(
            what, f"the policy cannot be met: {format_too_few(images)}", "give more, or leave --max-iou-drop out"
        )


def judge_policy(check: ImageSetCheck, limit: float, strict: bool = False) -> PolicyVerdict:
    """Return the policy's verdict on a check; strict: on the whole interval, not on the drop."""
    iou = check.iou
    unknown = find_unknown(check)
    met = not unknown and (iou.high if strict else iou.drop) <= limit
    sure = not unknown and (iou.high <= limit if met else iou.low > limit)
    relation = "at most" if met else "not surely at most" if iou.drop <= limit else "more than"
    why = unknown or f"{format_drop(check)}, {relation} {limit:g}"
    if not unknown and not sure:
        why += f"; not enough images to tell{format_images_needed(check, limit)}"
    return PolicyVerdict(limit, iou.drop, iou.low, iou.high, met, not unknown, sure, strict, why)


def find_unknown(check: ImageSetCheck) -> str:
    """Return why the drop cannot be known; "" where it can."""
    truth = "masks" if check.truth == "masks" else "Keras' masks"
    if check.images < MIN_IMAGES:
        return format_too_few(check.images)
    if check.lesions < MIN_LESIONS:
        return f"not enough images to tell: {truth} show a lesion on {check.lesions}, at least {MIN_LESIONS} must"
    if len(check.absent) > len(check.labels) - 2:
        only = next(name for name in check.labels if name not in check.absent)
        return f"not enough images to tell: {truth} show nothing but {only}"
    return "the drop of mean IoU is no number" if math.isnan(check.iou.drop) else ""


def format_too_few(images: int) -> str:
    """Return why so few images are not enough."""
    return f"not enough images to tell: {images}, at least {MIN_IMAGES} are needed"


def format_drop(check: ImageSetCheck) -> str:
    """Return the drop with its interval and its number of images."""
    iou = check.iou
    between = "" if math.isnan(iou.low) else f" (95 % interval {iou.low:.2g} to {iou.high:.2g})"
    truth = "" if check.truth == "masks" else ", Keras' own masks taken for the truth"
    return f"mean IoU drops by {iou.drop:.2g}{between} on {check.images} images{truth}"


def format_images_needed(check: ImageSetCheck, limit: float) -> str:
    """Return how many images would decide: an interval narrows with the square root of their number."""
    iou = check.iou
    half, distance = (iou.high - iou.low) / 2, abs(limit - iou.drop)
    if math.isnan(half) or not distance:
        return ""
    needed = check.images * max(2.0, (half / distance) ** 2)
    return "" if needed > MAX_SUGGESTED_IMAGES else f", some {float(f'{needed:.1g}'):.0f} would"
