"""The site builds without a warning, needs no network, and has a page for everything."""

from __future__ import annotations

import dataclasses
import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest

import prunebench as pb
from prunebench.criteria.registry import CRITERIA
from prunebench.experiments.phases import Budget, Phase
from prunebench.methods.registry import METHODS
from prunebench.own_network.prune_call import PruneCall
from prunebench.papers.published import papers, read_published
from tests.conftest import Once
from tests.own_network.own_networks import batches, classifier, images

pytest.importorskip("material", reason="the site is built by the extra `docs`")
ROOT = Path(__file__).parents[2]
GENERATORS = ROOT / "docs" / "generators"


@pytest.fixture(scope="module")
def site(once: Once) -> Path:
    """The built site."""

    def build(folder: Path) -> None:
        env = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
        command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-d", folder / "site"]
        done = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "WARNING" not in done.stderr, done.stderr

    return once("site", build) / "site"


class Links(HTMLParser):
    """Collects what a page loads, what it links to, and its anchors."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.linked: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self.anchors |= {values.get("id", ""), values.get("name", "")}
        if tag in ("script", "img", "iframe", "source"):
            self.loaded.append(values.get("src", ""))
        elif tag == "link" and values.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(values.get("href", ""))
        elif tag == "a":
            self.linked.append(values.get("href", ""))


def own_pages(site: Path) -> Iterator[Path]:
    """Yield the pages, without the interactive reports, which have tests of their own."""
    for path in sorted(site.rglob("*.html")):
        if path.relative_to(site).parts[0] != "leaderboard":
            yield path


def test_no_page_loads_anything_from_elsewhere(site: Path) -> None:
    pages = list(own_pages(site))
    assert len(pages) > 50
    for path in pages:
        assert [url for url in Links(path).loaded if re.match(r"(https?:)?//", url)] == []
        # The theme's script loads facts about a repository from its server.
        assert 'data-md-component="source"' not in path.read_text(encoding="utf-8")
    styles = "".join(path.read_text(encoding="utf-8") for path in site.rglob("*.css"))
    assert re.findall(r"(?:@import|url\()\s*[\"']?https?:", styles) == []


def test_every_link_and_picture_has_its_file(site: Path) -> None:
    found = {path: Links(path) for path in own_pages(site)}
    for path, page in found.items():
        if path.name == "404.html":  # its links begin at the top of the server
            continue
        for url in (*page.loaded, *page.linked):
            target, _, anchor = unquote(url).partition("#")
            if re.match(r"[a-z]+:", target):
                continue
            file = (path.parent / target).resolve() if target else path
            assert not target or file.exists(), f"{path}: {url}"
            if anchor and file in found:
                assert anchor in found[file].anchors, f"{path}: {url}"


def test_every_method_and_paper_has_a_page_with_what_it_must_say(site: Path) -> None:
    for name in (*METHODS, *CRITERIA):
        page = (site / "methods" / f"{name}.html").read_text(encoding="utf-8")
        for heading in (
            "What it does",
            "How to run it",
            "Options",
            "What the papers print",
            "What we measured",
        ):
            assert f">{heading}<" in page, f"{name}: {heading}"
        assert "<math" in page or name == "unpruned" or name == "fixreg", name
    for name in papers(read_published()):
        page = (site / "papers" / f"{name}.html").read_text(encoding="utf-8")
        assert "Its claims, tested" in page
        assert "Its printed rows" in page


def test_the_reference_has_what_an_author_needs(site: Path) -> None:
    page = Links(site / "api.html")
    fields = [
        *("methods.base.Method.recipe_roles", "methods.base.Method.loss_term"),
        *("methods.base.Run.sizes", "criteria.base.ScoringRun.model"),
        *("criteria.base.AnyUnitCriterion.weight_scores", "criteria.weights.FilterCriterion"),
        *("criteria.gradients.DataCriterion.samples", "criteria.feature_maps.unit_maps"),
        *(f"experiments.phases.Phase.{field.name}" for field in dataclasses.fields(Phase)),
        *(f"experiments.phases.Budget.{field.name}" for field in dataclasses.fields(Budget)),
    ]
    assert {f"prunebench.{name}" for name in fields} <= page.anchors
    words = (site / "api.html").read_text(encoding="utf-8")
    assert "raise it when the method's results change" in words  # a comment of the source
    assert "Number of training images; all of them if there are fewer." in words  # of pydantic


def test_the_calls_on_pages_of_methods_are_accepted(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their arguments are checked; nothing is pruned."""
    monkeypatch.setattr(PruneCall, "pruned", lambda call, target: call.name)
    names = {"pb": pb, "model": classifier(), "example": images(), "train_loader": batches()}
    names["accuracy"] = lambda model: 0.5
    checked = 0
    for name in (*METHODS, *CRITERIA):
        page = html.unescape((site / "methods" / f"{name}.html").read_text(encoding="utf-8"))
        for call in re.findall(r"<code>(pb\.prune\([^<]+\))</code>", page):
            assert eval(call, names) == name
            checked += 1
    assert checked > 20


def test_numbers_are_those_of_the_stored_tables(site: Path) -> None:
    summary = (ROOT / "results/reference/digits/tables/summary.md").read_text(encoding="utf-8")
    row = next(line for line in summary.splitlines() if line.startswith("| group_fisher"))
    top1 = re.findall(r"\d+\.\d+ ± \d+\.\d+", row)[0]
    assert top1 in (site / "methods" / "group_fisher.html").read_text(encoding="utf-8")
    assert top1 in (site / "leaderboard.html").read_text(encoding="utf-8")


def test_formulas_are_drawn_without_a_script(site: Path) -> None:
    for path in own_pages(site):
        page = path.read_text(encoding="utf-8")
        assert "arithmatex" not in page, path
        assert "<merror" not in page, path


def test_the_interactive_reports_are_part_of_the_site(site: Path) -> None:
    for name in ("cifar10_resnet20", "digits", "detection_digits"):
        assert (site / "leaderboard" / name / "index.html").stat().st_size > 100_000
        assert list((site / "leaderboard" / name / "runs").glob("*.html"))


def test_the_search_index_is_there_for_pages_on_a_disk(site: Path) -> None:
    index = (site / "search" / "search_index.js").read_text(encoding="utf-8")
    assert "group_fisher" in index


def test_the_examples_of_the_generators_are_true() -> None:
    command = [sys.executable, "-m", "doctest", *map(str, sorted(GENERATORS.glob("*.py")))]
    env = {**os.environ, "PYTHONPATH": f"{GENERATORS}{os.pathsep}{ROOT / 'src'}"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, cwd=ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
