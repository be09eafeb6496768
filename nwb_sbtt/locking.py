"""One process at a time: a lock that names its holder and ends with it.

The system's own lock (`flock`) ends with its process, even a killed one, and most shared disks pass it on to other
machines. Where they do not, the file itself has to tell: it holds host, process and start of the holder, who touches it
every few seconds. Imports nothing of the package but `atomic` and `errors`.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from nwb_sbtt.atomic import is_alive
from nwb_sbtt.errors import FileError

try:
    import fcntl
except ModuleNotFoundError:
    HAS_FLOCK = False
else:
    HAS_FLOCK = True

BEAT = 5.0
"""Seconds between two touches of the file by its holder."""
PATIENCE = 3 * BEAT
"""Seconds without a touch after which a holder on another machine counts as dead."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What the system answers on a disk without locks."""
_held: dict[Path, list[int]] = {}
"""By path, of the locks of this process: the thread that holds it, and how many times."""
_registry = threading.Lock()


@dataclass(frozen=True)
class Holder:
    """A process that holds a lock.

    Parameters
    ----------
    host : str
    pid : int
    started : str
        When the process began, as the system counts it; tells it from a later one of the same number. Empty where unknown.
    """

    host: str
    pid: int
    started: str = ""

    def __str__(self) -> str:
        here = " (this machine)" if self.host == socket.gethostname() else ""
        return f"process {self.pid} on {self.host}{here}"


@contextmanager
def hold(path: Path, *, what: str) -> Iterator[None]:
    """Hold a lock during the block; the thread that holds it may take it again.

    Parameters
    ----------
    path : Path
        File of the lock, removed in the end. Its folder must exist.
    what : str
        What is locked, for the error: "the run folder 'runs/first'".

    Raises
    ------
    FileError
        If another process, or another thread of this one, holds it, naming that process; or if the file cannot be written.
    """
    key, thread = Path(os.path.realpath(path.parent)) / path.name, threading.get_ident()
    with _registry:
        again = key in _held and _held[key][0] == thread
        if again:
            _held[key][1] += 1
    if again:
        try:
            yield
        finally:
            with _registry:
                _held[key][1] -= 1
        return
    try:
        descriptor = _acquire(path, what)
    except OSError as error:
        raise FileError(f"cannot write {str(path)!r}, the lock of {what}: {error.strerror}") from None
    with _registry:
        _held[key] = [thread, 1]
    done = threading.Event()
    beats = threading.Thread(target=_beat, args=(descriptor, done), daemon=True, name=f"lock of {path.parent.name}")
    beats.start()
    try:
        yield
    finally:
        done.set()
        beats.join()
        with _registry:
            del _held[key]
        _release(path, descriptor)


def _acquire(path: Path, what: str) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            locked = _flock(descriptor)
            if locked is False:
                raise _busy(what, _read(descriptor))
            if _is_at(path, descriptor):
                _take(path, descriptor, what, locked=locked is True)
                return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        # Its holder removed the file between the opening and the lock: this is a lock on nothing.
        os.close(descriptor)


def _take(path: Path, descriptor: int, what: str, *, locked: bool) -> None:
    """Write this process into the file, unless the one that it names is alive."""
    before, here = _read(descriptor), _this_process()
    if before is not None and before.host != here.host and _beats(path, descriptor):
        raise _busy(what, before)
    if before is not None and before.host == here.host and not locked and _is_alive(before):
        raise _busy(what, before)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, (json.dumps(asdict(here)) + "\n").encode(), 0)
    os.fsync(descriptor)
    if not locked:
        # Two may have come at once. The last to write has it, and both see who that is.
        time.sleep(BEAT / 10)
        if (holder := _read(descriptor)) is not None and holder != here:
            raise _busy(what, holder)


def _release(path: Path, descriptor: int) -> None:
    # The disk may have become read-only, or the folder may be gone; neither may hide an error of the block.
    with suppress(OSError):
        if _is_at(path, descriptor):
            path.unlink()
    os.close(descriptor)


def _flock(descriptor: int) -> bool | None:
    """Whether this process has the system's lock now; None where the disk or the system has none."""
    if not HAS_FLOCK:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        raise
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _beat(descriptor: int, done: threading.Event) -> None:
    while not done.wait(BEAT):
        with suppress(OSError):
            os.utime(descriptor)


def _beats(path: Path, descriptor: int) -> bool:
    """Whether a process of another machine touches the file; clocks of two machines are not compared."""
    first, end = os.fstat(descriptor).st_mtime_ns, time.monotonic() + PATIENCE
    while time.monotonic() < end:
        time.sleep(BEAT / 10)
        # Opened again: a shared disk compares what it remembers of a file with the server then.
        with suppress(FileNotFoundError), path.open("rb") as file:
            if os.fstat(file.fileno()).st_mtime_ns != first:
                return True
    return False


def _read(descriptor: int) -> Holder | None:
    """The process that the file names; None where it names none."""
    try:
        content = json.loads(os.pread(descriptor, 4096, 0))
        return Holder(str(content["host"]), int(content["pid"]), str(content["started"]))
    except (ValueError, TypeError, KeyError):
        return None


def _this_process() -> Holder:
    return Holder(socket.gethostname(), os.getpid(), _started(os.getpid()))


def _is_alive(holder: Holder) -> bool:
    """Whether a process of this machine lives, and is not another one that was given its number."""
    if not is_alive(holder.pid):
        return False
    now = _started(holder.pid)
    return not (now and holder.started and now != holder.started)


def _started(pid: int) -> str:
    """When a process began, in ticks since the system did, with the system's id; empty where there is no /proc."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        # The second field is the program's name in parentheses, which may hold anything.
        return f"{boot} {Path(f'/proc/{pid}/stat').read_text().rpartition(')')[2].split()[19]}"
    except OSError:
        return ""


def _busy(what: str, holder: Holder | None) -> FileError:
    who = "another process" if holder is None else str(holder)
    return FileError(f"{what} is in use by {who}; wait until that process has finished, or stop it")
