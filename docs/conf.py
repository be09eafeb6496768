"""Settings of the documentation: ``sphinx-build -W -b html docs build/docs``.

``NWB_SBTT_DOCS=small`` runs the notebooks with the small settings that each holds for tests;
``NWB_SBTT_DOCS=unexecuted`` does not run them.
"""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))

import kernels  # noqa: E402
import pages  # noqa: E402

project, author = "nwb_sbtt", "the nwb_sbtt developers"
copyright = "2026, the nwb_sbtt developers"  # noqa: A001
release = version = version_of("nwb_sbtt")

extensions = [
    "myst_nb",
    "numpydoc",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["jupyter_execute"]
html_theme = "pydata_sphinx_theme"
html_title = "nwb_sbtt"
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_copy_source = False
suppress_warnings = ["myst.header"]

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

mode = os.environ.get("NWB_SBTT_DOCS", "full")
if mode == "small":
    os.environ |= {"NWB_SBTT_GALLERY_CONDITIONS": "4", "NWB_SBTT_GALLERY_EPOCHS": "1", "NWB_SBTT_GALLERY_STEPS": "20"}
if mode != "unexecuted":
    kernels.offer()
nb_execution_mode = "off" if mode == "unexecuted" else "force"
nb_execution_raise_on_error = True
nb_execution_timeout = 900
nb_execution_excludepatterns = ["guides/06_dandi.ipynb"]
nb_execution_in_temp = True
nb_merge_streams = True

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False


# Here and not in an event, since autosummary looks for its directives before all others.
pages.write(HERE, small=mode == "small")
