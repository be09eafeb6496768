import pytest

from nwb_sbtt.report.search import in_words, page_of_search
from nwb_sbtt.report.sheet import document

SPACE = [
    {"name": "train.learning_rate", "text": "train.learning_rate=log(1e-4, 1e-2)", "log": True, "values": None},
    {"name": "model.factors", "text": "model.factors=[10, 20]", "log": False, "values": [10, 20]},
]
SCORES = {"best": {"valid": 0.3, "test": 0.22}, "defaults": {"valid": 0.2, "test": 0.2}}


def row(number, score, state="finished", origins=(), **settings):
    steps = [{"epoch": 2 * i, "score": score + 1 / i, "seconds": 10.0 * number + i} for i in (1, 2)]
    return {
        **{"number": number, "state": state, "cause": "<all> epochs finished", "epoch": 4, "score": score},
        **{"steps": steps if score is not None else [], "origins": list(origins), "reports": {}},
        "settings": {"train.learning_rate": 1e-3 * (number + 1), "model.factors": 10, **settings},
    }


def content(**changes):
    failed = {**row(2, 0.0, "failed"), "score": None, "steps": [], "cause": "the loss is <nan>"}
    found = {"metric": "bits per spike", "valid_trials": 4, "test_trials": 5, "scores": SCORES, "baselines": {}}
    return {
        **{"search": {"strategy": "optuna", "trials": 4, "pieces": 2, "seed": 0}, "model": "conv", "epochs": 4},
        **{"seconds": 60.0, "space": SPACE, "importance": {"train.learning_rate": 0.9, "model.factors": 0.1}},
        "result": {"sessions": {"monday": found}},
        "rows": [{**row(0, 0.5), "reports": {"monday": "trials/0000/report.html"}}, row(1, 0.4, "stopped"), failed],
        **changes,
    }


def test_the_page_shows_result_trials_and_causes():
    page = page_of_search(content(), title="Search <x>")
    for text in (
        "Search &lt;x&gt;",
        "the loss is &lt;nan&gt;",
        'href="trials/0000/report.html"',
        "0 (defaults)",
        "0.2200",
    ):
        assert text in page
    for heading in ("The result", "Scores over time", "Settings and scores", "Importance of the settings", "Trials"):
        assert f">{heading}</h2>" in page
    assert "Lineage" not in page
    assert "nwb-sbtt report FOLDER/trials/0007" in page
    joint = {**row(0, 0.5), "reports": {name: f"trials/0000/report_{name}.html" for name in ("monday", "tuesday")}}
    of_joint = page_of_search(content(rows=[joint]), title="x")
    assert '0 (defaults) <a href="trials/0000/report_monday.html">monday</a> <a' in of_joint
    assert page.count("data:image/png;base64,") == 2 * 3
    assert page.startswith(document("x", "")[:15])


def test_a_population_has_a_lineage_and_no_defaults_that_were_taken_over():
    changed = [row(0, 0.5, origins=[{"epoch": 2, "trial": 1}]), row(1, 0.4, **{"model.factors": 20})]
    page = page_of_search(
        content(rows=changed, search={"strategy": "pbt", "trials": 2, "pieces": 2, "seed": 0}), title="x"
    )
    assert ">Lineage of the population</h2>" in page
    assert "(defaults)" not in page


@pytest.mark.parametrize("rows", [[], [{**row(0, 0.0, "failed"), "score": None, "steps": []}], [row(0, 0.5)]])
def test_a_search_that_has_just_begun_has_a_page_too(rows):
    assert ">Trials</h2>" in page_of_search(content(rows=rows, result={}, importance={}), title="x")


def test_how_much_of_a_gain_was_luck_is_said():
    found = {"metric": "bits per spike", "scores": SCORES}
    assert in_words(found).endswith("80% of the gain is selection bias (choosing among many fits on the same trials).")
    same = {**found, "scores": {"best": SCORES["defaults"], "defaults": SCORES["defaults"]}}
    assert in_words(same) == "The winner is the trial with the defaults: the search found nothing better."
    worse = {**found, "scores": {"best": {"valid": 0.3, "test": 0.1}, "defaults": SCORES["defaults"]}}
    assert in_words(worse).endswith(
        "100% of the gain is selection bias (choosing among many fits on the same trials); on the test trials the "
        "defaults are not worse."
    )
    assert in_words({**found, "scores": {"best": SCORES["best"]}}).startswith("There are no defaults")
