"""Functions run as Ray tasks, whose messages come back while they run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError, TaskCancelledError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from nwb_sbtt.searching.cluster import Resources

Tell = Callable[[str, Any], bool]
"""Called within a task with a kind of message and what it says; returns whether the task is asked to end."""
TRIES = 2
"""Times that a task is begun again, after its process or its node died."""


@dataclass(frozen=True)
class Message:
    """What a task told.

    Parameters
    ----------
    task : str
        Its name.
    kind : str
    content : object
    """

    task: str
    kind: str
    content: Any


@dataclass(frozen=True)
class Ended:
    """How a task ended.

    Parameters
    ----------
    task : str
        Its name.
    value : object
        What its function returned; None after an error.
    error : str
        Why it ended without a value; empty where it has one.
    cancelled : bool
        Whether it was ended by `Tasks.cancel`.
    """

    task: str
    value: Any = None
    error: str = ""
    cancelled: bool = False


class Tasks:
    """Runs functions as Ray tasks; one at a time under each name.

    Parameters
    ----------
    resources : Resources
        What each task gets, unless it is light.
    """

    def __init__(self, resources: Resources) -> None:
        self._resources = resources
        self._board = start_board()
        self._running: dict[Any, str] = {}

    def __len__(self) -> int:
        return len(self._running)

    def submit(self, name: str, function: Callable[..., Any], *arguments: object, light: bool = False) -> None:
        """Begin a task, as soon as there is room.

        Parameters
        ----------
        name : str
        function : callable (tell, arguments) -> object
            Of a module that the workers can import; its errors should be in what it returns.
        arguments : object
        light : bool
            Whether it waits more than it computes, as a download does, and needs no CPU of its own.
        """
        options = {"num_cpus": 0} if light else self._resources.options()
        task = ray.remote(_told).options(**options, max_retries=TRIES, name=name)
        self._running[task.remote(self._board, name, function, arguments)] = name

    def wait(self, seconds: float) -> list[Ended]:
        """Return the tasks that have ended, after so many seconds or as soon as there is one.

        Parameters
        ----------
        seconds : float
        """
        if not self._running:
            return []
        done, _ = ray.wait(list(self._running), num_returns=1, timeout=seconds)
        more, _ = ray.wait(list(self._running), num_returns=len(self._running), timeout=0)
        return [self._ended(task) for task in dict.fromkeys([*done, *more])]

    def messages(self) -> list[Message]:
        """Return what the tasks told since the last call, in the order in which it came."""
        messages: list[Message] = ray.get(self._board.take.remote())
        return messages

    def stop(self) -> None:
        """Ask all tasks to end: each is answered so when it tells something."""
        ray.get(self._board.stop.remote())

    def cancel(self) -> None:
        """Interrupt all tasks, as Ctrl-C does, and let none of those that wait begin."""
        for task in self._running:
            ray.cancel(task)

    def close(self) -> None:
        """End what keeps the messages."""
        ray.kill(self._board)

    def _ended(self, task: Any) -> Ended:
        name = self._running.pop(task)
        try:
            return Ended(name, ray.get(task))
        except TaskCancelledError:
            return Ended(name, error="interrupted", cancelled=True)
        except RayTaskError as error:
            if isinstance(error.cause, KeyboardInterrupt):
                return Ended(name, error="interrupted", cancelled=True)
            lines = str(error.cause or error).strip().splitlines()
            return Ended(name, error=f"{type(error.cause).__name__}: {lines[-1] if lines else ''}")
        except RayError as error:
            lines = str(error).strip().splitlines() or [""]
            return Ended(name, error=f"its process or node died ({type(error).__name__}: {lines[0]})")


class Board:
    """An actor that keeps messages until they are fetched, and answers whether fits are to end."""

    def __init__(self) -> None:
        self._messages: list[Message] = []
        self._is_over = False

    def put(self, message: Message) -> bool:
        """Keep a message, and return whether fits are to end.

        Parameters
        ----------
        message : Message
        """
        self._messages.append(message)
        return self._is_over

    def stop(self) -> None:
        """Answer from now on that fits are to end."""
        self._is_over = True

    def is_over(self) -> bool:
        """Return whether fits are to end."""
        return self._is_over

    def take(self) -> list[Message]:
        """Return the messages since the last call."""
        taken, self._messages = self._messages, []
        return taken


def start_board() -> Any:
    """Start a board on this process's own node, as any other may be lost; return Ray's handle of it."""
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Board).options(num_cpus=0, scheduling_strategy=here).remote()


def _told(board: Any, name: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    """Call a function within a task."""

    def tell(kind: str, content: Any) -> bool:
        return bool(ray.get(board.put.remote(Message(name, kind, content))))

    return function(tell, *arguments)
