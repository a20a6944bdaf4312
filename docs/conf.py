"""The settings of the documentation site, which `make docs` builds with Sphinx."""

from importlib import metadata

project = "Flowli"
author = "The Flowli authors"
release = metadata.version("flowli")
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx_copybutton"]
exclude_patterns = ["_build", "explanation/scaling-figures.md"]
# Docstrings put code between single backquotes.
default_role = "literal"
myst_enable_extensions = ["colon_fence", "deflist"]
# The anchors of headings, as GitHub makes them.
myst_heading_anchors = 3
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
html_theme = "furo"
html_title = "Flowli"
html_copy_source = False
html_show_sphinx = False
