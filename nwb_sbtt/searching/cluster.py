"""Ray, which runs many fits at once: started on this machine, or joined where a cluster runs already."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from nwb_sbtt.atomic import is_alive
from nwb_sbtt.errors import ClusterError, ConfigError
from nwb_sbtt.printable import unfiltered

INSTALL = 'pip install "nwb_sbtt[search]"'
LOCAL = "local"
"""Address of a cluster on this machine, which is started, and ended with the block that uses it."""
LONGEST_SOCKET = 107
"""Bytes of the longest path of a unix socket on Linux."""
_BELOW = len("/ray/session_2026-01-01_00-00-00_000000_0000000/sockets/plasma_store")
"""Bytes that Ray adds to the path of its folder."""
_PREFIX = "sbtt-ray-"
_TOKEN = "RAY_AUTH_TOKEN"
_NICENESS = "RAY_worker_niceness"
TRIES = 3
"""Times that Ray is started on this machine."""
_of_process: dict[str, str] = {}
"""Ray reads the token once in a process; so all clusters that this one starts have the same."""


@dataclass(frozen=True)
class Resources:
    """What one fit gets of a machine.

    Parameters
    ----------
    cpus : float
        CPU cores.
    gpus : float
        Share of a GPU, up to 1; 0.25 puts four fits on one. With 0 a fit sees none.
    memory : float or None
        Memory [GB] that is set aside; None counts none.
    """

    cpus: float = 1.0
    gpus: float = 0.0
    memory: float | None = None

    def options(self) -> dict[str, Any]:
        """Return the options of a Ray task or actor (``ray.remote(f).options(**…)``)."""
        memory = {} if self.memory is None else {"memory": self._bytes}
        return {"num_cpus": self.cpus, "num_gpus": self.gpus, **memory}

    def bundle(self) -> dict[str, float]:
        """Return the resources by Ray's names, as a placement group takes them."""
        named = {"CPU": self.cpus, "GPU": self.gpus, "memory": float(self._bytes)}
        return {name: amount for name, amount in named.items() if amount}

    def check_device(self, device: str, *, option: str) -> None:
        """Refuse a GPU as the device of fits that get none.

        Parameters
        ----------
        device : str
            As `FitConfig.device`.
        option : str
            By which fits get a share of a GPU.

        Raises
        ------
        ConfigError
        """
        if device.startswith("cuda") and not self.gpus:
            raise ConfigError(
                f"device is {device!r}, but the fits have no GPU; set the share of each fit ({option} 1, or 0.25)"
            )

    @property
    def _bytes(self) -> int:
        return round((self.memory or 0) * 1e9)

    def __str__(self) -> str:
        parts = [f"{self.cpus:g} CPU{'s' * (self.cpus != 1)}"]
        parts += [f"{self.gpus:g} GPU{'s' * (self.gpus > 1)}"] if self.gpus else []
        parts += [f"{self.memory:g} GB of memory"] if self.memory else []
        return " and ".join(parts)


def check_installed() -> None:
    """Raise if Ray or Optuna is not installed; neither is imported.

    Raises
    ------
    ClusterError
        Naming what to install.
    """
    if missing := [name for name in ("ray", "optuna") if find_spec(name) is None]:
        raise ClusterError(f"running many fits needs {' and '.join(missing)}, not installed here: {INSTALL}")


@contextmanager
def connected(address: str | None = None, *, cpus: int | None = None, verbose: bool = False) -> Iterator[str]:
    """Be connected to Ray during the block: to one started on this machine, or to a cluster that runs already.

    Ray on this machine has no dashboard and reports no statistics of use. It asks for a token that only this process knows,
    and its files are in a temporary folder, removed in the end; so are those of killed processes. Workers import the code
    that this process does: on this machine by its path, elsewhere by a copy that Ray sends. Where this process is connected
    already, that connection is used, and left as it is. SIGTERM is taken as Ctrl-C, where nothing else was done about it.

    Parameters
    ----------
    address : str, optional
        "auto" (the cluster that this machine belongs to) or "HOST:PORT"; by default, or as "local", Ray is started here.
    cpus : int, optional
        CPU cores that Ray on this machine hands out; by default all that this process may use. Not of a cluster.
    verbose : bool
        Whether what Ray and the workers print is shown.

    Yields
    ------
    str
        Address of the cluster.

    Raises
    ------
    ClusterError
        If Ray is not installed, or cannot be started or joined.

    Examples
    --------
    >>> with connected(cpus=2):  # doctest: +SKIP
    ...     ray.get([ray.remote(work).remote(i) for i in range(4)])
    """
    check_installed()
    is_local = address in (None, LOCAL)
    if not is_local and cpus is not None:
        raise ClusterError(
            f"the number of CPUs of a cluster ({address}) is set when its nodes are started; omit it here ({cpus})"
        )
    with _environment(is_local=is_local):
        import ray

        if ray.is_initialized():
            yield ray.get_runtime_context().gcs_address
            return
        if address is not None and not is_local:
            _check_reachable(address)
        handler = signal.getsignal(signal.SIGTERM)
        printing = {"log_to_driver": verbose, "logging_level": "INFO" if verbose else "ERROR"}
        n_cpus = cpus or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
        try:
            # What Ray loads here writes an escape to the stream that it finds, when the program ends.
            with redirect_stdout(unfiltered(sys.stdout)), redirect_stderr(unfiltered(sys.stderr)):
                if is_local:
                    _patiently(lambda: ray.init(LOCAL, num_cpus=n_cpus, include_dashboard=False, **printing))
                else:
                    import nwb_sbtt

                    ray.init(address, runtime_env={"py_modules": [nwb_sbtt]}, **printing)
        except Exception as error:  # Ray raises errors of many kinds here, bare ones among them, as far as it came.
            ray.shutdown()
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if is_local:
                raise ClusterError(
                    f"cannot start Ray on this machine: {reason} Check whether it is busy or out of memory."
                ) from error
            raise _not_there(address, reason) from error
        try:
            # Ray's own would end this process with the number of the signal as its exit code.
            _on_termination(signal.default_int_handler if handler is signal.SIG_DFL else handler)
            yield ray.get_runtime_context().gcs_address
        finally:
            ray.shutdown()
            _on_termination(handler)


def _on_termination(handler: Any) -> None:
    """Set the handler of SIGTERM, where this is the main thread and the handler one of Python."""
    if handler is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)


def check_room(resources: Resources, *, options: str) -> None:
    """Raise if no node has what a fit asks for; it would wait for ever.

    Parameters
    ----------
    resources : Resources
    options : str
        Options of the command by which less is asked for.

    Raises
    ------
    ClusterError
        Naming what the largest nodes have.
    """
    import ray

    wanted = resources.bundle()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if any(all(node.get(name, 0) >= amount for name, amount in wanted.items()) for node in nodes):
        return
    largest = {name: max((node.get(name, 0) for node in nodes), default=0) for name in ("CPU", "GPU", "memory")}
    raise ClusterError(
        f"a fit needs {resources}, which none of {len(nodes)} node{'s' * (len(nodes) != 1)} has (at most "
        f"{Resources(largest['CPU'], largest['GPU'], round(largest['memory'] / 1e9, 1))}); request less ({options})"
    )


def n_at_once(resources: Resources) -> int:
    """Return how many fits the cluster has room for at once.

    Parameters
    ----------
    resources : Resources
    """
    import ray

    wanted = resources.bundle()
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    return sum(int(min(node.get(name, 0) / amount for name, amount in wanted.items())) for node in nodes)


def _patiently(start: Callable[[], object]) -> None:
    """Start Ray, again where its processes do not answer in its 30 s, as on a machine that is busy with other things."""
    for _ in range(TRIES):
        try:
            start()
        except Exception as error:
            # Of that alone Ray raises no class of its own.
            if type(error) is not Exception:
                raise
            reason = str(error)
        else:
            return
    raise ClusterError(f"cannot start Ray on this machine, after {TRIES} tries: {reason}")


def _check_reachable(address: str) -> None:
    """Raise if nothing listens at an address: Ray would try for minutes."""
    if address == "auto":
        return
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except ValueError:
        raise _not_there(address, "it is not HOST:PORT") from None
    except OSError as error:
        raise _not_there(address, error.strerror or str(error)) from None


def _not_there(address: str | None, reason: str) -> ClusterError:
    return ClusterError(
        f"cannot join the Ray cluster {address!r}: {reason}; pass HOST:PORT of its head node (`ray start --head` "
        "prints it), or auto on a machine of the cluster, or omit the address to use only this machine"
    )


@contextmanager
def environment(settings: Mapping[str, str]) -> Iterator[None]:
    """Set variables of the environment during the block.

    Parameters
    ----------
    settings : mapping of name to str
    """
    before = {name: os.environ.get(name) for name in settings}
    os.environ.update(settings)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _environment(*, is_local: bool) -> Iterator[None]:
    """Set what Ray reads from the environment; what the user has set there is kept."""
    settings = {"RAY_USAGE_STATS_ENABLED": "0"}
    if is_local and _NICENESS not in os.environ:
        # Fits have the priority of the command, as that of a single fit; Ray's 15 would leave them 3 % of a busy core.
        settings[_NICENESS] = "0"
    folder = None
    token = Path.home() / ".ray" / "auth_token"
    has_token = any(name in os.environ for name in (_TOKEN, "RAY_AUTH_TOKEN_PATH")) or token.exists()
    if not is_local and has_token and "RAY_AUTH_MODE" not in os.environ:
        # `ray start` asks for the token by default, and a program that joins shows it only if it is told to.
        settings["RAY_AUTH_MODE"] = "token"
    if is_local:
        if _TOKEN not in os.environ and "RAY_AUTH_TOKEN_PATH" not in os.environ:
            settings[_TOKEN] = _of_process.setdefault(_TOKEN, secrets.token_hex(32))
            if "ray" not in sys.modules:  # The mode is read when Ray is imported, the token when it is first needed.
                settings["RAY_AUTH_MODE"] = "token"
        if "RAY_TMPDIR" not in os.environ:
            folder = _temporary_folder()
            settings["RAY_TMPDIR"] = str(folder)
    try:
        with environment(settings):
            yield
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def _temporary_folder() -> Path:
    """Make a folder whose path is short enough for Ray's sockets; those of processes that were killed are removed."""
    places = [place for place in dict.fromkeys([tempfile.gettempdir(), "/tmp"]) if Path(place).is_dir()]
    for place in places:
        for old in Path(place).glob(f"{_PREFIX}*"):
            pid = old.name.removeprefix(_PREFIX).partition("-")[0]
            if pid.isdigit() and not is_alive(int(pid)):
                shutil.rmtree(old, ignore_errors=True)
    for place in places:
        name = f"{_PREFIX}{os.getpid()}-"
        if len(os.fsencode(place)) + 1 + len(name) + 8 + _BELOW <= LONGEST_SOCKET:
            return Path(tempfile.mkdtemp(prefix=name, dir=place))
    raise ClusterError(
        f"the path of the temporary folder, {tempfile.gettempdir()!r}, is too long for Ray's sockets; set TMPDIR to a "
        "shorter one"
    )
