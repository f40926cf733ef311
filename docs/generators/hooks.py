"""What `mkdocs build` calls: add generated pages and figures, mend links, draw formulas.

Nothing generated is stored in the repository: pages of methods come from their docstrings, those
of papers from the printed rows, tables from results/reference.
"""

from __future__ import annotations

import posixpath
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import api_page
import command_pages
import drawings
import leaderboard
import method_pages
import networks_page
import paper_pages
from mathml import with_mathml
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from stored import ROOT, papers

# Files of the repository that are pages of the site, too.
INCLUDED = {
    "changelog.md": "CHANGELOG.md",
    "code_of_conduct.md": "CODE_OF_CONDUCT.md",
    "configuration.md": "config/README.md",
    "contributing.md": "CONTRIBUTING.md",
}
FIGURES = "results/reference"
_LINK = re.compile(r"(!?\[[^\]\n]*\]\()([^)\s#]*)(#[^)\s]*)?(\))")
_CODE = re.compile(r"(^```.*?^```|`[^`\n]*`)", re.DOTALL | re.MULTILINE)

scratch = Path(tempfile.mkdtemp(prefix="prunebench-site-"))


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill the navigation with the generated pages."""
    sections: dict[str, list[Any]] = {
        "Methods": [
            "methods/index.md",
            *(
                {heading: [{name: f"methods/{name}.md"} for name in names]}
                for heading, names in method_pages.groups().items()
            ),
        ],
        "Papers": [
            "papers/index.md",
            *({paper.title: f"papers/{paper.slug}.md"} for paper in papers().values()),
        ],
    }
    config.nav = [
        {title: sections.get(title, content) for title, content in entry.items()}
        if isinstance(entry, dict)
        else entry
        for entry in config.nav or []
    ]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add generated pages, files of the repository, figures and interactive reports."""
    for place, text in generated():
        files.append(File.generated(config, place, content=text))
    for path in sorted((ROOT / FIGURES).glob("*/figures/*.[ps][nv]g")):
        place = path.relative_to(ROOT).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    for path in networks_page.files():
        place = f"{networks_page.FOLDER}/{path.name}"
        files.append(File.generated(config, place, abs_src_path=str(path)))
    for path in (*leaderboard.reports(scratch), *drawings.write(scratch)):
        place = path.relative_to(scratch).as_posix()
        files.append(File.generated(config, place, abs_src_path=str(path)))
    return files


def generated() -> Iterator[tuple[str, str]]:
    """Yield path and Markdown text of all pages that are not files in docs/."""
    yield from method_pages.pages()
    yield from paper_pages.pages()
    yield "leaderboard.md", leaderboard.page()
    yield "commands.md", command_pages.page()
    for place, source in INCLUDED.items():
        yield place, (ROOT / source).read_text(encoding="utf-8")


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let links point to pages of the site, or else to the repository."""
    source = INCLUDED.get(page.file.src_uri, f"docs/{page.file.src_uri}")
    text = networks_page.with_networks(api_page.with_names(markdown))
    return with_links(text, source, page.file.src_uri, files, config.extra["repository"])


def with_links(text: str, source: str, place: str, files: Files, repository: str) -> str:
    """Return a page of the repository, `source`, with links as they are from `place` on the site.

    Links between files are relative on both sides. A file of the repository that is no page is
    linked to on its server. Code is left as it is.
    """
    included = {file: page for page, file in INCLUDED.items()}

    def moved(found: re.Match[str]) -> str:
        start, target, anchor, end = found.groups()
        if not target or re.match(r"[a-z]+:", target):
            return found[0]
        path = posixpath.normpath(posixpath.join(posixpath.dirname(source), target))
        page = included.get(path, path.removeprefix("docs/"))
        if files.get_file_from_path(page) is not None:
            link = posixpath.relpath(page, posixpath.dirname(place) or ".")
        else:
            link = f"{repository}/blob/main/{path}"
        return f"{start}{link}{anchor or ''}{end}"

    parts = _CODE.split(text)
    return "".join(part if i % 2 else _LINK.sub(moved, part) for i, part in enumerate(parts))


def on_page_content(html: str, **_: object) -> str:
    """Draw the formulas."""
    return with_mathml(html)


def on_post_build(config: MkDocsConfig) -> None:
    """Remove the reports' folder: they are copied."""
    shutil.rmtree(scratch, ignore_errors=True)
