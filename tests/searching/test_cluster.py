from __future__ import annotations

import ast
import os
import socket
import sys
from pathlib import Path

import pytest

import nwb_sbtt
from nwb_sbtt.config import FitConfig, SearchConfig
from nwb_sbtt.errors import ClusterError, ConfigError
from nwb_sbtt.runs.fitall import fit_all
from nwb_sbtt.searching import cluster
from nwb_sbtt.searching.cluster import Resources, check_installed, check_room, connected, n_at_once
from nwb_sbtt.searching.search import search
from tests.support.commands import call
from tests.support.fits import population


def test_what_to_install_is_said_before_anything_begins(monkeypatch):
    monkeypatch.setattr(cluster, "find_spec", lambda name: None)
    with pytest.raises(ClusterError, match=r"needs ray and optuna, .* pip install \"nwb_sbtt\[search\]\""):
        check_installed()


def test_without_ray_the_command_line_says_what_to_install_and_makes_nothing(monkeypatch, capsys, tmp_path):
    for name in ("ray", "optuna"):
        monkeypatch.setitem(sys.modules, name, None)
    for words in (["search", "a.nwb", "--run-dir", tmp_path / "run"], ["fit-all", tmp_path, "--out", tmp_path / "run"]):
        assert call(monkeypatch, *words) == 2
        assert capsys.readouterr().err.endswith('not installed here: pip install "nwb_sbtt[search]"\n')
    assert not list(tmp_path.iterdir())


def test_resources_are_named_as_ray_names_them():
    assert Resources(2, 0.25, 4).bundle() == {"CPU": 2, "GPU": 0.25, "memory": 4e9}
    assert Resources().options() == {"num_cpus": 1, "num_gpus": 0}
    assert str(Resources(2, 0.5, 4)) == "2 CPUs and 0.5 GPU and 4 GB of memory"


def test_a_gpu_as_the_device_of_fits_that_get_none_is_refused(tmp_path):
    Resources(gpus=0.25).check_device("cuda", option="--gpus-per-fit")
    Resources().check_device("auto", option="--gpus-per-fit")
    with pytest.raises(ConfigError, match=r"device is 'cuda', but the fits have no GPU; set the share of each fit"):
        search(population(), run_dir=tmp_path / "run", fit=FitConfig(device="cuda"))
    with pytest.raises(ConfigError, match=r"GPU; set the share of each fit"):
        fit_all([tmp_path], FitConfig(device="cuda"), out=tmp_path / "fits")
    with pytest.raises(ConfigError, match="'gpus_per_trial' is 2; expected number ≥ 0, ≤ 1"):
        SearchConfig(gpus_per_trial=2)
    assert not list(tmp_path.iterdir())


def test_a_cluster_has_its_own_number_of_cpus():
    with pytest.raises(ClusterError, match="are started; omit it here"), connected("auto", cpus=2):
        pass


def test_the_folder_of_ray_is_short_enough_for_its_sockets(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 100)
    long.mkdir()
    (dead := tmp_path / "sbtt-ray-4194303-killed").mkdir()
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(long))
    folder = cluster._temporary_folder()
    folder.rmdir()
    assert folder.parent == Path("/tmp")
    monkeypatch.setattr(cluster.tempfile, "gettempdir", lambda: str(tmp_path))
    cluster._temporary_folder().rmdir()
    assert not dead.exists()


def _names_of_ray(tree: ast.Module) -> list[str]:
    """Dotted names of Ray that a module imports or uses."""
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names += [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names.append(ast.unparse(node))
    return [name for name in names if name.split(".")[0] in ("ray", "tune", "optuna")]


def test_only_public_names_of_ray_and_optuna_are_used():
    root = Path(nwb_sbtt.__file__).parent
    used = {
        name: path.name
        for path in root.rglob("*.py")
        for name in _names_of_ray(ast.parse(path.read_text(encoding="utf-8")))
    }
    assert used
    private = [
        f"{name} in {path}"
        for name, path in used.items()
        if any(part.startswith("_") for part in name.split("."))
        or name.startswith(("ray.tune.execution", "ray.tune.impl", "ray.air._internal"))
    ]
    assert not private


def test_ray_is_started_again_where_it_gave_up_early_and_only_then():
    tries = []

    def start():
        tries.append(1)
        if len(tries) < 3:
            raise Exception("The current node timed out during startup.")

    cluster._patiently(start)
    assert len(tries) == 3
    with pytest.raises(ClusterError, match=r"after 3 tries: it timed out"):
        cluster._patiently(lambda: (_ for _ in ()).throw(Exception("it timed out")))
    with pytest.raises(KeyError):
        cluster._patiently(lambda: {}["other"])


@pytest.mark.slow
def test_ray_is_started_here_used_and_removed(tmp_path, monkeypatch):
    import ray

    monkeypatch.setenv("HOME", str(tmp_path))
    with connected(cpus=2) as address:
        assert address.rpartition(":")[2].isdigit()
        folder = Path(os.environ["RAY_TMPDIR"])
        where = ray.remote(lambda: nwb_sbtt.__file__)
        assert ray.get(where.options(**Resources(1).options()).remote()) == nwb_sbtt.__file__
        assert ray.get(ray.remote(lambda: os.nice(0)).remote()) == os.nice(0)
        assert n_at_once(Resources(1)) == 2
        check_room(Resources(2), options="--cpus-per-fit")
        with pytest.raises(ClusterError, match=r"3 CPUs, which none of 1 node has.*\(--cpus-per-fit\)"):
            check_room(Resources(3), options="--cpus-per-fit")
        with connected():  # the same connection
            assert ray.is_initialized()
        assert ray.is_initialized()
    assert not ray.is_initialized()
    assert not folder.exists()
    assert "RAY_TMPDIR" not in os.environ
    assert not list(tmp_path.iterdir())


def test_a_cluster_that_is_not_there_is_named():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    with pytest.raises(ClusterError, match=rf"cannot join the Ray cluster '{address}'"), connected(address):
        pass
