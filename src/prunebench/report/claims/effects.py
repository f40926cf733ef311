"""Effects that claims are about: one number per seed from the rows of a runs.csv.

Runs of one seed share their base network, data order and augmentation, so all effects are formed
within a seed. Several ratios or networks are averaged within the seed first: the number of
independent values is the number of seeds.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
import pandas as pd

from prunebench.report.runs_csv import NETWORK, histories
from prunebench.report.seed_statistics import image_steps

_PLACE = [*NETWORK, "ratio_kind", "ratio"]
WITHIN = 0.5  # points of the last epoch's accuracy in which a run has converged
FIRST_EPOCHS = 2  # of fine-tuning
FINE_TUNE = "fine_tune"


class Variant(NamedTuple):
    """A method in one of its settings."""

    method: str
    setting: str = "default"

    def __str__(self) -> str:
        """Return method/setting, the method alone for its default setting.

        >>> str(Variant("l1")), str(Variant("l1", "weights"))
        ('l1', 'l1/weights')
        """
        return self.method if self.setting == "default" else f"{self.method}/{self.setting}"


class PerSeed(NamedTuple):
    """An effect by seed, and the smallest step by which it can change for lack of test images.

    The step is that of a difference of two accuracies of one run each: one test image.
    """

    values: pd.Series
    step: float = 0.0


class Effect(Protocol):
    """An effect, computed from the rows of a runs.csv."""

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return the methods and settings whose runs it needs."""

    def by_seed(self, frame: pd.DataFrame) -> PerSeed:
        """Return the effect of each seed that has all runs; empty if there is none."""


def _column(name: str) -> Callable[[pd.DataFrame], pd.Series]:
    def values(frame: pd.DataFrame) -> pd.Series:
        if name not in frame:
            return pd.Series(np.nan, frame.index)
        return frame[name].astype(float)

    return values


def log10_selection_seconds(frame: pd.DataFrame) -> pd.Series:
    """Return the decimal logarithm of the seconds in which units are scored and selected."""
    return frame["selection_seconds"].astype(float).map(math.log10)


def epochs_to_converge(frame: pd.DataFrame) -> pd.Series:
    """Return the first epoch from which the accuracy stays within `WITHIN` points of the last.

    The accuracy is that of the pruned network on the test split, after each epoch of the run: of
    two rows of one epoch, the later one, after its pruning.
    """
    return pd.Series([_settled(one) for one in histories(frame)], frame.index, dtype=float)


def _settled(history: Mapping[str, Sequence[object]] | None) -> float:
    if history is None or not history["epoch"]:
        return np.nan
    rows = pd.DataFrame(history)[["phase", "epoch", "test_accuracy"]].dropna()
    accuracies = rows.groupby(["phase", "epoch"], sort=False)["test_accuracy"].last().to_numpy()
    away = np.flatnonzero(np.abs(accuracies - accuracies[-1]) > WITHIN)
    return float(away[-1] + 2) if len(away) else 1.0


def first_epochs(frame: pd.DataFrame) -> pd.Series:
    """Return the mean test accuracy after the first `FIRST_EPOCHS` epochs of fine-tuning."""
    return pd.Series([_early(one) for one in histories(frame)], frame.index, dtype=float)


def _early(history: Mapping[str, Sequence[object]] | None) -> float:
    if history is None:
        return np.nan
    rows = pd.DataFrame(history)
    trained = rows[(rows["phase"] == FINE_TUNE) & (rows["event"] == "")]
    found = trained["test_accuracy"].astype(float).head(FIRST_EPOCHS)
    return float(found.mean()) if len(found) == FIRST_EPOCHS else np.nan


@dataclass(frozen=True)
class Quantity:
    """A number of each run."""

    of: Callable[[pd.DataFrame], pd.Series]
    counts_images: bool = False  # an accuracy: a multiple of one test image


ACCURACY = Quantity(_column("accuracy"), counts_images=True)
EARLY_ACCURACY = Quantity(first_epochs, counts_images=True)
CONVERGENCE = Quantity(epochs_to_converge)
SELECTION = Quantity(log10_selection_seconds)
ADDITIVITY_ERROR = Quantity(_column("additivity_error"))
ADDITIVITY_CORRELATION = Quantity(_column("additivity_correlation"))


@dataclass(frozen=True)
class Contrast:
    """The weighted sum over variants of a quantity, averaged over the ratios that all of them have.

    {ours: 1, theirs: -1} is a paired difference. The weights add up to 0.
    """

    weights: Mapping[Variant, float]
    quantity: Quantity = ACCURACY

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return the variants of the sum."""
        return tuple(self.weights)

    def by_seed(self, frame: pd.DataFrame) -> PerSeed:
        """Return the contrast of each seed that has the runs of all variants at all ratios."""
        sums = self.by_place(frame)
        if sums.empty:
            return PerSeed(pd.Series(dtype=float))
        whole = sums.dropna()
        # rounding to whole images adds up over the variants and averages out over the ratios
        spread = np.sqrt(sum(w * w for w in self.weights.values()) / 2 / sums.shape[1])
        step = image_steps(frame).max() * float(spread) if self.quantity.counts_images else 0.0
        return PerSeed(whole.mean(axis=1), step)

    def by_place(self, frame: pd.DataFrame) -> pd.DataFrame:
        """Return the contrast by seed (rows) and by network and ratio (columns), NaN if not run."""
        chosen = _runs_of(frame, self.variants)
        if chosen.empty:
            return pd.DataFrame()
        chosen = chosen.assign(value=self.quantity.of(chosen))
        table = chosen.pivot_table("value", ["seed", *_PLACE], "variant", sort=False, dropna=False)
        if set(table.columns) < set(self.variants):
            return pd.DataFrame()
        sums = sum(weight * table[name] for name, weight in self.weights.items())
        assert isinstance(sums, pd.Series)
        return sums.unstack(_PLACE).dropna(axis=1, how="all").sort_index()


@dataclass(frozen=True)
class VarianceShares:
    """Share of the variance of accuracies due to the setting, minus that due to the method.

    A two-way table methods × settings of each seed (means over ratios), without repetition: the
    sums of squares of the rows' and of the columns' means, over that of all entries.
    """

    methods: tuple[str, ...]
    settings: tuple[str, ...]

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return every method in every setting."""
        return tuple(Variant(method, name) for method in self.methods for name in self.settings)

    def by_seed(self, frame: pd.DataFrame) -> PerSeed:
        """Return the difference of shares of each seed with a full table that is not constant."""
        chosen = _runs_of(frame, self.variants)
        shares = {}
        for seed, runs in chosen.groupby("seed"):
            table = runs.pivot_table("accuracy", "method", "setting")
            if table.shape != (len(self.methods), len(self.settings)) or table.isna().any(
                axis=None
            ):
                continue
            whole = float(((table - table.to_numpy().mean()) ** 2).to_numpy().sum())
            if whole > 0:
                by_setting = len(self.methods) * _squares(table.mean(axis=0))
                by_method = len(self.settings) * _squares(table.mean(axis=1))
                shares[seed] = (by_setting - by_method) / whole
        return PerSeed(pd.Series(shares, dtype=float))


def _squares(means: pd.Series) -> float:
    return float(((means - means.mean()) ** 2).sum())


@dataclass(frozen=True)
class Rank:
    """How far a method's rank by accuracy lies above the middle of some methods.

    0.5: always the best; 0: in the middle; -0.5: always the worst. Ties share the mean rank. Ranks
    are formed at each network, ratio and setting of a seed, and averaged.
    """

    method: str
    among: tuple[str, ...]  # with the method itself
    settings: tuple[str, ...] = ("default",)

    @property
    def variants(self) -> tuple[Variant, ...]:
        """Return every ranked method in every setting."""
        return tuple(Variant(method, name) for method in self.among for name in self.settings)

    def by_seed(self, frame: pd.DataFrame) -> PerSeed:
        """Return the place of each seed that has the runs of all methods at all ratios."""
        chosen = _runs_of(frame, self.variants)
        if chosen.empty:
            return PerSeed(pd.Series(dtype=float))
        table = chosen.pivot_table("accuracy", ["seed", *_PLACE, "setting"], "method", sort=False)
        if set(table.columns) < set(self.among):
            return PerSeed(pd.Series(dtype=float))
        ranks = table.dropna().rank(axis=1, ascending=False)[self.method]
        places = 0.5 - (ranks - 1) / (len(self.among) - 1)
        by_place = places.unstack([*_PLACE, "setting"]).dropna(axis=1, how="all").dropna()
        return PerSeed(by_place.mean(axis=1).sort_index())


def _runs_of(frame: pd.DataFrame, variants: Sequence[Variant]) -> pd.DataFrame:
    """Return the pruned runs of some variants, with the column `variant`."""
    pairs = [Variant(*pair) for pair in zip(frame["method"], frame["setting"], strict=True)]
    named = frame.assign(variant=pd.Series(pairs, frame.index, dtype=object))
    return named[named["variant"].isin(list(variants)) & named["ratio"].notna()]
