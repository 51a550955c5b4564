"""How many devices does a site need, and at what cost? All assumptions are in Workload."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Workload:
    """A site's workload; None is not given. The other fields are assumptions, printed wherever they are used."""

    studies_per_day: float | None = None
    price: float | None = None
    slices_per_study: float = 200  # a 3-D series of the head has 150 to 200 slices, a 2-D one 20 to 30
    hours_per_day: float = 8  # a working day, within which all slices are to be processed
    busy: float = 0.7  # studies do not arrive evenly: 30 % of the time is kept free
    years: float = 5  # until a device is replaced
    days_per_year: float = 250
    currency: str = ""  # of the price; "" is not given

    @property
    def slices_per_day(self) -> float | None:
        """Return the day's slices; None without the number of studies."""
        return None if self.studies_per_day is None else self.studies_per_day * self.slices_per_study


def count_capacity(work: Workload, slices_per_hour: float) -> float:
    """Return the studies a day that one device can process."""
    return slices_per_hour * work.hours_per_day * work.busy / work.slices_per_study


def count_devices(work: Workload, slices_per_hour: float) -> int | None:
    """Return the number of devices for the day's studies, at least one; None without the number of studies."""
    if work.slices_per_day is None:
        return None
    return max(1, math.ceil(work.slices_per_day / (slices_per_hour * work.hours_per_day * work.busy) - 1e-9))


def cost_per_thousand(work: Workload, slices_per_hour: float) -> float | None:
    """Return the devices' price for 1,000 slices over their years of use; None if an input is missing."""
    devices = count_devices(work, slices_per_hour)
    if devices is None or work.price is None or not work.slices_per_day:
        return None
    return devices * work.price / (work.slices_per_day * work.days_per_year * work.years) * 1000
