"""The book: lessons, the teacher's guide, the commands and the package as a static site.

``python3 bootstrap.py book`` builds it into ``build/book`` from the committed outputs; nothing is
executed but the embedded model, for the explorers. No page asks a server for anything.
"""

import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import pages

import labkit

project = "How a vision-language model really runs on Arm"
author = copyright = "the contributors of labkit"  # noqa: A001 - Sphinx wants this name
version = release = labkit.__version__

extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["**.ipynb_checkpoints", "workshop/colab.ipynb"]
suppress_warnings = ["config.cache"]  # the reader of lessons is a function

myst_enable_extensions = ["deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"
nb_custom_formats = {".ipynb": ["pages.lesson", {}, False]}
nb_mime_priority_overrides = [("*", "application/vnd.jupyter.widget-view+json", None)]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_google_docstring = False
napoleon_use_ivar = True

html_theme = "sphinx_book_theme"
html_title = project
html_math_renderer = "mathml"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = ["book.js"]
html_theme_options = {
    "home_page_in_toc": True,
    "navbar_persistent": [],  # the search stands in the side bar
    "show_toc_level": 2,
    "use_download_button": True,
}
if pages.REPOSITORY:
    html_theme_options |= {
        "repository_url": f"{os.environ['GITHUB_SERVER_URL']}/{pages.REPOSITORY}",
        "repository_branch": pages.BRANCH,
        "path_to_docs": "notebooks",
        "use_repository_button": True,
        "use_issues_button": True,
        "launch_buttons": {"binderhub_url": pages.BINDER, "notebook_interface": "jupyterlab"},
    }


def setup(app):
    pages.connect(app)
