import copy

import pytest

import nwb_sbtt as sb
from nwb_sbtt.config import (
    BandwidthConfig,
    Chop,
    ConvConfig,
    ElectricalConfig,
    FitConfig,
    InitConfig,
    LFADSConfig,
    ReadConfig,
    SAEConfig,
    TrainConfig,
    Trials,
    Window,
    build,
    config_of,
    load_config,
    override,
    save_config,
)
from nwb_sbtt.errors import ConfigError


@pytest.mark.parametrize(
    "config",
    [
        FitConfig(),
        FitConfig(model=SAEConfig(encoder=3), train=TrainConfig(max_minutes=1.5)),
        FitConfig(init=InitConfig(run_dir="runs/a", freeze="generator"), seeds=3),
        ReadConfig(),
        ReadConfig(series=("units",), cut=Trials(event="go", start=-1, stop=2), where={"quality": ("good",)}),
        ReadConfig(cut=Window(start=0, stop=3), bandwidth=BandwidthConfig(k=3)),
        ReadConfig(cut=Chop(length=2, overlap=0.5), control=(1, 2)),
    ],
)
def test_a_saved_config_loads_equal(tmp_path, config):
    save_config(config, tmp_path / "config.yaml")
    assert load_config(type(config), tmp_path / "config.yaml") == config
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"]


def test_settings_change_by_their_dotted_names():
    config = override(FitConfig(), ["train.epochs=3", "masks.coordinated_dropout=[0.2, 0.3]", "model.factors=7"])
    assert (config.train.epochs, config.masks.coordinated_dropout, config.model.factors) == (3, (0.2, 0.3), 7)
    assert override(FitConfig(), ["model={name: sae}"]).model == SAEConfig()
    other = override(FitConfig(), ["model.factors=7", "model.name=lfads"])
    assert other.model == LFADSConfig(factors=7)
    assert override(FitConfig(model=ConvConfig(width=32)), ["model.name=conv"]).model == ConvConfig(width=32)
    assert override(ReadConfig(), ["bandwidth.k=3", "bandwidth.seed=1"]).bandwidth == BandwidthConfig(k=3, seed=1)


def test_one_assignment_or_a_dict_of_them_will_do():
    assert override(FitConfig(), "train.epochs=3") == override(FitConfig(), ["train.epochs=3"])
    by_name = {
        "train.epochs": 3,
        "train.max_minutes": None,
        "masks.coordinated_dropout": (0.2, 0.3),
        "model.name": "sae",
    }
    texts = ["train.epochs=3", "train.max_minutes=null", "masks.coordinated_dropout=0.2,0.3", "model.name=sae"]
    assert override(FitConfig(), by_name) == override(FitConfig(), texts)
    for wrong in ([("train.epochs", 3)], 3):
        with pytest.raises(ConfigError, match=r"got .*3.*; expected assignments, such as .*, or a dict of settings"):
            override(FitConfig(), wrong)


def test_settings_of_a_function_may_be_a_dict_of_them():
    assert config_of(FitConfig, None) == FitConfig()
    assert config_of(FitConfig, FitConfig(seed=3)) == FitConfig(seed=3)
    expected = FitConfig(seed=3, train=TrainConfig(epochs=2), model=SAEConfig(encoder=3))
    assert config_of(FitConfig, {"seed": 3, "train": {"epochs": 2}, "model": {"name": "sae", "encoder": 3}}) == expected
    assert config_of(FitConfig, {"seed": 3, "train.epochs": 2, "model.encoder": 3, "model.name": "sae"}) == expected
    assert config_of(ReadConfig, {"cut": Window(start=0, stop=1)}) == ReadConfig(cut=Window(start=0, stop=1))
    with pytest.raises(ConfigError, match=r"'train.epocs'; did you mean 'train.epochs'"):
        config_of(FitConfig, {"train": {"epocs": 2}})


@pytest.mark.parametrize("wrong", ["train.epochs=1", 3, [1], ReadConfig(), TrainConfig()])
def test_settings_of_another_kind_are_refused_where_a_function_takes_them(wrong):
    expected = r"^(config|fit|read) is .*; expected a (Fit|Search|Write)Config, or a dict of its settings"
    counts, latents = sb.from_numpy([[[1]]], bin_width=1.0), sb.from_numpy([[[1]]], bin_width=1.0)
    latents.attrs |= {
        "model": '{"model_type": "a", "software_name": "b", "software_version": "c"}',
        "session_start_time": "2020-01-01T00:00:00+00:00",
    }
    for use in (
        lambda: sb.fit(counts, wrong, run_dir="x"),
        lambda: sb.fit_all("x.nwb", wrong, out="x"),
        lambda: sb.write_nwb(latents, "x.nwb", config=wrong),
    ):
        with pytest.raises(ConfigError, match=expected):
            use()
    if not isinstance(wrong, ReadConfig):
        with pytest.raises(ConfigError, match=r"^config is .*; expected a ReadConfig, or a dict of its settings"):
            sb.read_nwb("x.nwb", wrong)


@pytest.mark.parametrize("wrong", ["start_time:0:1", 3, [0, 1]])
def test_what_is_no_description_of_trials_is_refused_by_the_name_of_the_argument(wrong):
    with pytest.raises(ConfigError, match=r"^trials is .*; expected sb\.Trials\(event=.*sb\.Window.*sb\.Chop"):
        sb.read_nwb("x.nwb", trials=wrong)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train": {"epoch": 3}}, "unknown setting 'train.epoch'; did you mean 'train.epochs'?"),
        ({"epochs": 3}, "unknown setting 'epochs'; did you mean 'train.epochs'?"),
        ({"factors": 3}, "unknown setting 'factors'; did you mean 'model.factors'?"),
        ({"train": {"epochs": "many"}}, "setting 'train.epochs' is 'many'"),
        ({"valid_fraction": 1.5}, "setting 'valid_fraction' is 1.5"),
        ({"init": {"freeze": "none"}}, "setting 'init.run_dir' is missing"),
        ({"init": {"run_dir": "a", "freeze": "all"}}, "setting 'init.freeze' is 'all'"),
        ({"model": {"name": "transformer"}}, "sae"),
    ],
)
def test_a_wrong_setting_is_named(settings, message):
    with pytest.raises(ConfigError) as error:
        build(FitConfig, settings)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ({"by": "window", "strt": 0, "stop": 1}, "unknown setting 'cut.strt'; did you mean 'cut.start'?"),
        ({"by": "window", "stop": 1}, "setting 'cut.start' is missing"),
        ({"by": "trial"}, "setting 'cut' cannot be 'trial'; expected one of 'trials', 'window', 'chop'"),
    ],
)
def test_a_wrong_setting_of_a_cut_is_named_as_it_is_set(cut, message):
    with pytest.raises(ConfigError) as error:
        build(ReadConfig, {"cut": cut})
    assert message in str(error.value)


@pytest.mark.parametrize("width", [0, -1, float("nan"), float("inf")])
def test_a_bin_width_must_be_a_positive_number(width):
    with pytest.raises(ConfigError, match="bin_width"):
        build(ReadConfig, {"bin_width": width})


def test_a_window_must_not_end_before_it_starts():
    with pytest.raises(ConfigError, match="must be later than start"):
        build(ReadConfig, {"cut": {"by": "window", "start": 2, "stop": 1}})


@pytest.mark.parametrize(("text", "message"), [("a: [", "not a YAML file"), ("- 1", "should contain")])
def test_a_file_that_is_no_config_is_an_error_in_words(tmp_path, text, message):
    (tmp_path / "c.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(FitConfig, tmp_path / "c.yaml")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(FitConfig, tmp_path / "missing.yaml")


def test_a_set_text_without_a_value_is_an_error():
    with pytest.raises(ConfigError, match="name=value"):
        override(FitConfig(), ["train.epochs"])
    with pytest.raises(ConfigError, match="is one value without settings below it"):
        override(FitConfig(), ["seed.more=1"])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FitConfig(valid=0.2), "unknown setting 'valid'; did you mean 'valid_fraction'?"),
        (lambda: FitConfig(seed=1.5), "setting 'seed' is 1.5; expected integer ≥ 0"),
        (lambda: FitConfig(train=3), "setting 'train' is 3; expected TrainConfig, or a dict of its settings"),
        (
            lambda: FitConfig(train={"epochs": "many"}),
            "setting 'train.epochs' is 'many'; expected integer ≥ 1, or None",
        ),
        (lambda: FitConfig(model=3), "setting 'model' is 3; expected a name, such as 'conv'"),
        (lambda: FitConfig(**{"train.epochs": 3}), "in Python pass train=…"),
        (lambda: Trials("go"), "Trials takes settings by name, such as event=…, not 'go'"),
        (lambda: Trials(event=3, start=0, stop=1), "setting 'event' is 3; expected text"),
        (lambda: Trials(event="go"), "setting 'start' is missing; expected number (s)"),
        (lambda: Window(start=float("nan"), stop=1), "setting 'start' is nan; expected a finite number"),
        (lambda: ReadConfig(bin_width=True), "setting 'bin_width' is True; expected number > 0 (s), or None"),
        (lambda: ReadConfig(cut={"by": "chop", "length": True}), "setting 'cut.length' is True; expected number"),
        (lambda: Trials(event="go", start=False, stop=1), "setting 'start' is False; expected number"),
        (lambda: ElectricalConfig(band=(True, 30)), "setting 'band' is (True, 30); expected"),
        (lambda: override(FitConfig(), "train.epochs=true"), "setting 'train.epochs' is True; expected integer"),
        (lambda: ReadConfig(cut="trials"), "setting 'cut' is 'trials'; expected Trials or Window or Chop"),
        (
            lambda: ReadConfig(cut={"length": 1}),
            "setting 'cut.by' is missing; expected one of 'trials', 'window', 'chop'",
        ),
        (lambda: ReadConfig(series=(3,)), "setting 'series' holds 3; expected list of texts"),
        (lambda: ReadConfig(where={"quality": 3}), "setting 'where' holds 3 under 'quality'"),
        (lambda: ReadConfig(electrical={"band": [3]}), "setting 'electrical.band' is [3]; expected 2 numbers > 0 (Hz)"),
        (lambda: ElectricalConfig(band=(12, 8)), "band is [12, 8] Hz; expected the lower edge first"),
        (lambda: ElectricalConfig(bands={"theta": (4, 4)}), "bands.theta is [4, 4] Hz; expected the lower edge first"),
        (lambda: ElectricalConfig(notch=1), "expected the frequency of the line noise, such as 50 or 60"),
        (lambda: ElectricalConfig(dead_time=60), "setting 'dead_time' is 60; expected number ≤ 1, ≥ 0 (s)"),
        (lambda: ElectricalConfig(threshold=0), "a threshold of 0 sd is too close to zero: noise crosses it all the"),
        (lambda: ElectricalConfig(threshold=0, threshold_unit="uV"), "a threshold of 0 uV is too close to zero: noise"),
        (lambda: ElectricalConfig(min_observed=0.1), "setting 'min_observed' is 0.1; expected number ≥ 0.5, ≤ 1"),
        (
            lambda: ElectricalConfig(reference_by="shank"),
            "reference; also set reference to median, average or bipolar",
        ),
        (lambda: LFADSConfig(factors=0), "setting 'factors' is 0; expected integer ≥ 1"),
        (lambda: setattr(FitConfig(), "seed", 3), "settings cannot be changed: FitConfig.seed is 0"),
        (lambda: build(FitConfig, [1]), "expected settings by name, not [1]"),
        (lambda: build(FitConfig, {"dynamics": {"dimension": 4}}), "did you mean 'dynamics.dimensions'?"),
        (lambda: build(FitConfig, {"dynamics": 4}), "further_training), or auto, or null (`nwb-sbtt"),
        (lambda: FitConfig(dynamics=True), "DynamicsConfig, or a dict of its settings, or 'auto', or None"),
        (lambda: build(ReadConfig, 1, within="read"), "setting 'read' is 1; expected settings by name"),
        (lambda: override(ReadConfig(), ["rois.cells=none"], within="read"), "'read.rois.cells' is 'none'"),
        (lambda: override(ReadConfig(), ["rois.cell=all"], within="read"), "did you mean 'read.rois.cells'?"),
    ],
)
def test_what_is_wrong_is_said_in_one_line_of_the_words_of_the_package(make, message):
    with pytest.raises(ConfigError) as error:
        make()
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert not any(word in str(error.value) for word in ("Input should", "valid ", "Field required", "pydantic"))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"dimensions": 0},
            "setting 'dynamics.dimensions' is 0; expected integer ≥ 1, or null (`nwb-sbtt settings --search",
        ),
        ({"foo": 4}, "unknown setting 'dynamics.foo'; available: dynamics.courses, dynamics.dimensions"),
    ],
)
def test_settings_that_may_be_a_word_too_are_wrong_by_their_own_names(settings, message):
    with pytest.raises(ConfigError) as error:
        build(FitConfig, {"dynamics": settings})
    assert str(error.value).startswith(message)
    assert "; setting" not in str(error.value)


def test_true_and_false_are_taken_where_they_are_meant():
    assert ReadConfig(where={"good": (True,)}).where == {"good": (True,)}
    assert ReadConfig(valid_unit_periods=True).valid_unit_periods is True


@pytest.mark.parametrize("name", ["seed", "train.seed"])
def test_seeds_that_do_not_fit_into_64_bits_are_refused_with_the_range(name):
    assert override(FitConfig(), [f"{name}={2**63 - 1}"]).training_seed == 2**63 - 1
    with pytest.raises(ConfigError, match=rf"^{name}: expected a whole number from 0 to 2\*\*63 − 1$"):
        override(FitConfig(), [f"{name}=99999999999999999999"])


def test_settings_stay_what_they_are_for_type_checkers_and_copies():
    config = FitConfig(seed=3)
    assert config.model_copy(update={"seed": 4}).seed == 4 and config.seed == 3
    assert copy.deepcopy(config) == config == FitConfig.model_validate(config.model_dump())


@pytest.mark.parametrize(
    ("assignment", "value"),
    [
        ("series=units", ("units",)),
        ("series=acquisition/a,acquisition/b", ("acquisition/a", "acquisition/b")),
        ("control=1,2", (1, 2)),
        ("control=1", (1,)),
        ("control=[1, 2]", (1, 2)),
        ("electrical.band=8,12", (8.0, 12.0)),
        ("electrical.bad_channels=auto", "auto"),
        ("electrical.bad_channels=3,b1", (3, "b1")),
    ],
)
def test_lists_are_taken_with_commas(assignment, value):
    changed = override(ReadConfig(), [assignment])
    for name in assignment.partition("=")[0].split("."):
        changed = getattr(changed, name)
    assert changed == value
