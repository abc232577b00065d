"""Hooks of the site: formulas as MathML, scripts as code, and links that leave docs/ as links into the repository."""

from __future__ import annotations

import logging
import posixpath
import re
from pathlib import Path
from typing import Any

from latex2mathml.converter import convert

ROOT = Path(__file__).parents[1]
REPOSITORY = "https://github.com/at2-prune/at2-prune"
INCLUDED = {"changelog.md": "CHANGELOG.md", "guides/contributor.md": "CONTRIBUTING.md"}
"""Pages whose text is a file of the repository's root."""
SHOWN = {"README.md": "index.md", **{file: page for page, file in INCLUDED.items()}}
"""Files of the repository's root, and the pages that show them."""
_FORMULA = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
_LINK = re.compile(r"\]\((?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?\)")
_SCRIPT = re.compile(r"<!-- shows (\S+\.py) -->")
"""A comment in a page. The site has the script there, with the path from the repository's root."""
log = logging.getLogger("mkdocs.hooks")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Include files, and replace links that leave docs/. A link to a file that is not there gives a warning."""
    name = page.file.src_uri
    folder = posixpath.dirname(f"docs/{name}")
    if name in INCLUDED:
        markdown, folder = (ROOT / INCLUDED[name]).read_text(encoding="utf-8"), ""
    markdown = _LINK.sub(lambda found: _link(found, folder, name), markdown)
    return _SCRIPT.sub(lambda found: _script(found[1], name), markdown)


def _script(path: str, page: str) -> str:
    """Return a block with the code of a script. A script that is not there gives a warning."""
    if not (ROOT / path).is_file():
        log.warning("%s shows %s, which is not there", page, path)
        return ""
    return f"```python\n{(ROOT / path).read_text(encoding='utf-8').strip()}\n```"


def _link(found: re.Match[str], folder: str, page: str) -> str:
    target = posixpath.normpath(posixpath.join(folder, found[1]))
    anchor = found[2] or ""
    path = ROOT / target
    if not path.exists():
        log.warning("%s links to %s, which is not there", page, target)
    if target in SHOWN:
        return f"]({posixpath.relpath(SHOWN[target], posixpath.dirname(page) or '.')}{anchor})"
    if target.startswith("docs/") and path.is_file():
        return f"]({posixpath.relpath(target, posixpath.dirname(f'docs/{page}'))}{anchor})"
    kind = "tree" if path.is_dir() else "blob"
    return f"]({REPOSITORY}/{kind}/main/{target}{anchor})"


def on_page_content(html: str, **_: Any) -> str:
    """Write formulas as MathML, which browsers show without a script."""
    return _FORMULA.sub(_mathml, html)


def _mathml(found: re.Match[str]) -> str:
    source = found[3].replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&")
    if found[2] == "(":
        return f'<span class="formula">{convert(source)}</span>' if len(source) > 40 else convert(source)
    return f'<div class="formula">{convert(source, display="block")}</div>'
