"""Kernels of notebooks, all forked from one process that has loaded the packages: loading takes longer than most notebooks."""

from __future__ import annotations

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from contextlib import suppress
from multiprocessing.connection import Client, Connection, Listener
from pathlib import Path

LOADED = ("ipykernel.ipkernel", "ndx_sbtt", "nwb_sbtt.evaluate.baselines", "nwb_sbtt.pipeline", "torch._dynamo")
INLINE = {"MPLBACKEND": "module://matplotlib_inline.backend_inline"}
"""As kernels set it before matplotlib is loaded."""


def offer() -> None:
    """Start that process, and let every notebook of this process and of its children have its kernel from there."""
    folder = tempfile.TemporaryDirectory()
    address = Path(folder.name) / "kernels"
    spec = {"display_name": "Python 3", "language": "python"}
    spec["argv"] = [sys.executable, __file__, "run", str(address), "-f", "{connection_file}"]
    (kernel := Path(folder.name) / "kernels_of_python" / "kernels" / "python3").mkdir(parents=True)
    (kernel / "kernel.json").write_text(json.dumps(spec), encoding="utf-8")
    paths = [str(kernel.parents[1]), *filter(None, [os.environ.get("JUPYTER_PATH")])]
    os.environ["JUPYTER_PATH"] = os.pathsep.join(paths)
    with Listener(str(Path(folder.name) / "ready")) as ready:
        words = [sys.executable, __file__, "serve", str(address), str(ready.address)]
        server = subprocess.Popen(words, env={**os.environ, **INLINE}, start_new_session=True)
        ready.accept().close()
    atexit.register(folder.cleanup)
    atexit.register(server.kill)


def serve(address: str, ready: str) -> None:
    """Load everything, and fork a kernel whenever one is asked for."""
    for name in LOADED:
        importlib.import_module(name)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # leaves no zombies
    with Listener(address) as listener:
        Client(ready).close()
        while True:
            connection = listener.accept()
            if os.fork() == 0:
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                listener.close()
                _be_kernel(connection)
            connection.close()


def run(address: str, *words: str) -> None:
    """Ask for a kernel with these arguments, and end with it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # comes before a kernel is told to end
    with Client(address) as connection:
        connection.send((words, str(Path.cwd()), dict(os.environ)))
        with suppress(EOFError):
            connection.recv()


def _be_kernel(connection: Connection) -> None:
    from ipykernel.kernelapp import IPKernelApp

    words, folder, environment = connection.recv()
    os.chdir(folder)
    os.environ.clear()
    os.environ.update({**environment, **INLINE})
    threading.Thread(target=_end_with, args=(connection,), daemon=True).start()
    try:
        IPKernelApp.launch_instance(argv=[*words, f"--IPKernelApp.parent_handle={os.getppid()}"])
    finally:
        os._exit(0)


def _end_with(connection: Connection) -> None:
    """End this kernel when who asked for it is killed."""
    with suppress(EOFError, OSError):
        connection.recv()
    os._exit(1)


if __name__ == "__main__":
    {"serve": serve, "run": run}[sys.argv[1]](*sys.argv[2:])
