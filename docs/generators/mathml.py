r"""Formulas as MathML, made when the site is built: browsers show it without any script.

Markdown's extension arithmatex marks `$...$` and `$$...$$`; this replaces what it marks.
"""

from __future__ import annotations

import html
import re

from latex2mathml.converter import convert

_INLINE = re.compile(r'<span class="arithmatex">\\\((.*?)\\\)</span>', re.DOTALL)
_BLOCK = re.compile(r'<div class="arithmatex">\s*\\\[(.*?)\\\]\s*</div>', re.DOTALL)


def with_mathml(page: str) -> str:
    r"""Replace the formulas of an HTML page.

    >>> with_mathml('a <span class="arithmatex">\\(x\\)</span>')[-30:]
    '<mrow><mi>x</mi></mrow></math>'
    """
    page = _INLINE.sub(lambda found: _math(found[1], "inline"), page)
    return _BLOCK.sub(lambda found: f'<div class="formula">{_math(found[1], "block")}</div>', page)


def _math(latex: str, display: str) -> str:
    return convert(html.unescape(latex.strip()), display=display)
