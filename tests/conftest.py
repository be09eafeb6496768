"""Shape and type checks of every tensor argument are on in all tests; recorded files are a fixture."""

from pathlib import Path

import pytest
from jaxtyping import install_import_hook

install_import_hook(
    ["nwb_sbtt.batch", "nwb_sbtt.masks", "nwb_sbtt.nn", "nwb_sbtt.models", "nwb_sbtt.train"], "beartype.beartype"
)


@pytest.fixture(scope="session")
def realdata() -> Path:
    """Folder of recorded files beside the project; a test that needs it is skipped, in words, where it is missing."""
    folder = Path(__file__).parents[2] / "shared" / "realdata"
    if not folder.is_dir():
        pytest.skip("the recorded files (../shared/realdata beside the project) are not here")
    return folder
