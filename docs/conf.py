"""Sphinx builds these pages: make docs. Docstrings are plain text, and are shown as they are written."""

import importlib
import sys
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import Directive

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from dimofs import __main__ as console  # noqa: E402
from dimofs import __version__  # noqa: E402
from dimofs.cli import parser  # noqa: E402

project, author, release = "dimofs", "the dimofs authors", __version__
extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["build"]
html_theme = "furo"
html_title = f"dimofs {__version__}"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
myst_heading_anchors = 3
# Links to files of the repository, which are no pages here, are checked by the tests.
suppress_warnings = ["myst.xref_missing"] if not ROOT.is_dir() else []


class CommandHelp(Directive):
    """What each command prints with --help."""

    def run(self) -> list[nodes.Node]:
        found: list[nodes.Node] = []
        for words, module in console.commands().items():
            name = f"dimofs {' '.join(words)}"
            section = nodes.section(ids=[name.replace(" ", "-")])
            section += nodes.title(text=name)
            text = parser(importlib.import_module(module).main, name).format_help()
            section += nodes.literal_block(text, text, language="text")
            found.append(section)
        return found


def as_written(app, what, name, obj, options, lines) -> None:
    """The first paragraph of a docstring as text, the rest as it is written."""
    text = "\n".join(lines).strip()
    first, _, rest = text.partition("\n\n")
    lines[:] = [line.replace("*", "\\*").replace("|", "\\|") for line in first.splitlines()]
    if rest.strip():
        lines += ["", ".. code-block:: text", "", *("   " + line for line in rest.splitlines())]
    lines.append("")


def setup(app) -> None:
    app.add_directive("command-help", CommandHelp)
    app.connect("autodoc-process-docstring", as_written)
