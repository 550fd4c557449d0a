"""Configuration of Sphinx: ``make docs``."""

from __future__ import annotations

from txsentinel import __version__

project = "txsentinel"
release = version = __version__
copyright = "the txsentinel maintainers"
extensions = ["sphinx.ext.autodoc", "repoze.sphinx.autointerface"]
nitpicky = False
root_doc = "index"
exclude_patterns: list[str] = []
html_theme = "alabaster"
html_theme_options = {"description": "A drop-in for redis-sentinel and valkey-sentinel", "page_width": "1100px"}
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
man_pages = [("txsentinel.8", "txsentinel", "monitor Redis and Valkey masters and fail over to replicas", "", 8)]
man_make_section_directory = True
