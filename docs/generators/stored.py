"""What the repository stores for all pages: summaries, costs, claims, papers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd
import yaml

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "results" / "reference"


@dataclass(frozen=True)
class Paper:
    """One of the six papers, from CITATION.cff."""

    slug: str
    title: str
    authors: str
    year: int
    address: str

    @property
    def arxiv(self) -> str:
        """Return the identifier on arXiv."""
        return self.address.rpartition("/")[2]


SLUGS = {  # of papers/published_rows, by their identifier on arXiv
    "2009.05014": "orthoreg",
    "1804.09461": "increg",
    "2010.09498": "srfp",
    "2101.07985": "epruner",
    "2012.09243": "greg",
    "2108.00708": "group_fisher",
}


@cache
def papers() -> dict[str, Paper]:
    """Return the six papers by slug."""
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    found = {}
    for entry in citation["references"]:
        slug = SLUGS.get(entry.get("url", "").rpartition("/")[2])
        if slug is not None:
            names = ", ".join(author["family-names"] for author in entry["authors"])
            found[slug] = Paper(slug, entry["title"], names, entry["year"], entry["url"])
    return dict(sorted(found.items()))


@cache
def summaries() -> pd.DataFrame:
    """Return the rows of all stored summaries, with their experiment.

    `accuracy` and `base` are the top-1 or the AP, which `metric` names.
    """
    frames = []
    for path in sorted(REFERENCE.glob("*/tables/summary.csv")):
        frame = pd.read_csv(path)
        metric = "map" if "map" in frame else "top1"
        names = {metric: "accuracy", f"{metric}_std": "accuracy_std", f"base_{metric}": "base"}
        frame = frame.rename(columns=names).assign(metric=metric)
        frames.append(frame.assign(experiment=path.parents[1].name))
    return pd.concat(frames, ignore_index=True)


@cache
def costs() -> pd.DataFrame:
    """Return the audit of printed costs, a row per printed cell."""
    return pd.read_csv(REFERENCE / "costs" / "costs.csv", dtype=str, keep_default_na=False)


@cache
def claims() -> pd.DataFrame:
    """Return the papers' claims as tested on stored runs."""
    return pd.read_csv(REFERENCE / "claims" / "claims.csv", dtype=str, keep_default_na=False)
