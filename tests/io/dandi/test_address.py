import re
from pathlib import Path

import pytest
from dandi.consts import DandiInstance
from dandi.dandiarchive import parse_dandi_url

from nwb_sbtt.errors import ConfigError
from nwb_sbtt.io.dandi.address import Address, is_address, narrow, parse_address

API, WEB = "https://api.dandiarchive.org", "https://dandiarchive.org"
VERSION, FILE = "0.220113.0408", "sub-J/sub-J_ses-1_ecephys.nwb"
ID = "544a660e-a173-46f3-985a-60fd67e6ae1f"
STAND_IN = DandiInstance("x", None, "http://127.0.0.1:9/api")
WHOLE, PINNED = Address(None, "000140"), Address(None, "000140", VERSION)
FORMS = {
    "000140": WHOLE,
    "DANDI:000140": WHOLE,
    "dandi:000140": WHOLE,
    f"DANDI:000140/{VERSION}": PINNED,
    f"000140/{VERSION}": PINNED,
    f"000140@{VERSION}": PINNED,
    "DANDI:000140/draft": Address(None, "000140", "draft"),
    f"DANDI:000140/{VERSION}/{FILE}": Address(None, "000140", VERSION, FILE),
    f"DANDI:000140/{FILE}": Address(None, "000140", None, FILE),
    "DANDI:000140/draft.nwb": Address(None, "000140", None, "draft.nwb"),
    f"dandi://dandi-sandbox/000140@{VERSION}/{FILE}": Address("dandi-sandbox", "000140", VERSION, FILE),
    "dandi://mine/000140": Address("mine", "000140"),
    "LINC:000140": Address("linc", "000140"),
    f"{WEB}/dandiset/000140": Address(WEB, "000140"),
    f"{WEB}/dandiset/000140/{VERSION}": Address(WEB, "000140", VERSION),
    f"{WEB}/#/dandiset/000140/{VERSION}/": Address(WEB, "000140", VERSION),
    f"{WEB}/dandiset/000140/draft/files?location=sub-J%2F": Address(WEB, "000140", "draft", "sub-J"),
    f"{WEB}/#/dandiset/000140/draft/files?location=sub-J": Address(WEB, "000140", "draft", "sub-J"),
    f"{API}/api/dandisets/000140/": Address(API, "000140"),
    f"{API}/api/dandisets/000140/versions/{VERSION}/": Address(API, "000140", VERSION),
    f"{API}/api/dandisets/000140/versions/draft/assets/?path=sub-J%2Fx.nwb": Address(
        API, "000140", "draft", "sub-J/x.nwb"
    ),
    f"{API}/api/dandisets/000140/versions/draft/assets/?glob=*ses-1*": Address(API, "000140", "draft", glob="*ses-1*"),
    f"{API}/api/dandisets/000140/versions/draft/assets/{ID}/": Address(API, "000140", "draft", asset_id=ID),
    f"{API}/api/assets/{ID}/download/": Address(API, asset_id=ID),
    "http://127.0.0.1:8000/api/dandisets/000140/": Address("http://127.0.0.1:8000", "000140"),
    f"https://identifiers.org/DANDI:000140/{VERSION}": PINNED,
    f"https://doi.org/10.48324/dandi.000140/{VERSION}": PINNED,
}


@pytest.mark.parametrize("text", FORMS)
def test_every_form_of_an_address_means_what_it_says(text):
    assert parse_address(text) == FORMS[text]
    # A Path loses one of two slashes, and one at the end.
    if "?" not in text and "#" not in text:
        assert parse_address(Path(text)) == FORMS[text]


@pytest.mark.parametrize("text", [text for text in FORMS if "127.0.0.1" not in text])
def test_an_address_means_what_it_means_to_dandi(text, monkeypatch):
    skipped = ("https://identifiers", "https://doi", "000140", "dandi:0", "dandi://mine", "https://dandiarchive.org/#")
    if text.startswith(skipped) or (text.startswith("DANDI:") and text.count("/") > 1) or text.endswith(".nwb"):
        pytest.skip("a form that dandi does not know, or asks a server for")
    monkeypatch.setattr("dandi.dandiarchive.get_instance", lambda name: STAND_IN)
    theirs, ours = parse_dandi_url(text), parse_address(text)
    assert (theirs.dandiset_id, theirs.version_id) == (ours.dandiset, ours.version)
    place = getattr(theirs, "path", None)
    assert (place or "").rstrip("/") == (ours.path or ours.glob or "")
    assert getattr(theirs, "asset_id", None) == ours.asset_id


@pytest.mark.parametrize(
    "text", ["", "140", "000140x", "C:/000140", "recording.nwb", "https://example.org/x", "dandi://mine"]
)
def test_what_is_no_address_is_refused_with_the_forms_there_are(text):
    with pytest.raises(ConfigError, match=r"is not an address of a dandiset; expected 000140, DANDI:000140"):
        parse_address(text)


def test_only_a_prefix_or_a_url_tells_an_address_from_a_file():
    assert all(is_address(text) and is_address(Path(text)) for text in FORMS if not text.startswith("000140"))
    assert not any(is_address(text) for text in ("000140", "000140/x.nwb", "C:/x.nwb", "a:b", "data/DANDI:000140", "x"))


def test_an_address_prints_as_one_that_can_be_read():
    for address in FORMS.values():
        if address.dandiset is not None and address.asset_id is None and address.glob is None:
            again = parse_address(str(address))
            assert (again.dandiset, again.version, again.path) == (address.dandiset, address.version, address.path)


def test_what_is_said_twice_must_be_the_same():
    assert parse_address("000140", instance="mine").instance == "mine"
    with pytest.raises(ConfigError, match="names an archive; omit the instance 'mine'"):
        parse_address("dandi://other/000140", instance="mine")
    assert narrow(PINNED, version=VERSION, path=FILE) == Address(None, "000140", VERSION, FILE)
    with pytest.raises(ConfigError, match=re.escape(f"has the version {VERSION!r}; omit 'draft'")):
        narrow(PINNED, version="draft")
    with pytest.raises(ConfigError, match="not both"):
        narrow(WHOLE, path=FILE, glob="*")
