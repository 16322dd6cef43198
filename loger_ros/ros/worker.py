"""The thread that owns the network. Whatever touches a stream happens here, one thing after the other."""

from __future__ import annotations

import queue
import threading
import time
import traceback
from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

from rclpy.task import Future

from loger_ros.ros.background import Background

IDLE = 0.2  # s between looks if nobody wakes the worker
MOST_REQUESTS = 32  # that may wait


class Served(Protocol):
    """One camera's stream, as the worker sees it."""

    def step(self) -> bool:
        """Process one frame, if there is one. Return whether more are waiting. Raises nothing."""
        ...


class Refused(Exception):
    """The worker will not do that."""


class Answer:
    """The answer to a request to the worker; to be awaited in a callback or waited for in a thread."""

    def __init__(self, wake: Callable[[], object]) -> None:
        self._wake = wake
        self._done = threading.Event()
        self._settled: Future = Future()  # the same, for rclpy's executor
        self._value: Any = None
        self._error: Exception | None = None

    def settle(self, value: Any = None, error: Exception | None = None) -> None:
        self._value, self._error = value, error
        self._done.set()
        self._settled.set_result(None)
        self._wake()

    def settle_with(self, function: Callable[[], Any]) -> None:
        """Settle it with what the function returns or raises."""
        try:
            value = function()
        except Exception as error:  # for whoever asked
            self.settle(error=error)
        else:
            self.settle(value)

    @property
    def refusal(self) -> str:
        """Why the worker will not do it; empty if it has not refused."""
        return str(self._error) if isinstance(self._error, Refused) else ""

    def result(self, timeout: float | None = None) -> Any:
        if not self._done.wait(timeout):
            raise TimeoutError(f"no answer within {timeout} s")
        if self._error is not None:
            raise self._error
        return self._value

    def __await__(self) -> Generator[Any, None, Any]:
        """Some executors resume when the future is done, others when something wakes them."""
        yield from self._settled.__await__()
        return self.result()


class Worker:
    def __init__(self, streams: Sequence[Served], wake_executor: Callable[[], object] = lambda: None) -> None:
        self._streams = streams
        self._wake_executor = wake_executor
        self._requests: queue.SimpleQueue[tuple[Callable[[], Any], Answer]] = queue.SimpleQueue()
        self._news = threading.Event()
        self._stopping = False
        self._accepting = threading.Lock()
        self._since: float | None = None  # monotonic: when the current work began
        self._thread = Background(self._run, "network")

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        """There is a new frame."""
        self._news.set()

    def ask(self, function: Callable[[], Any]) -> Answer:
        """Have the function called between two frames."""
        answer = Answer(self._wake_executor)
        with self._accepting:
            if self._stopping:
                answer.settle(error=Refused("the node is being deactivated"))
                return answer
            if self._requests.qsize() >= MOST_REQUESTS:
                answer.settle(error=Refused(f"{MOST_REQUESTS} requests are already waiting for the network"))
                return answer
            self._requests.put((function, answer))
        self._news.set()
        return answer

    def busy_for(self) -> float:
        """Seconds that the current work has taken; 0 when idle."""
        since = self._since
        return 0.0 if since is None else time.monotonic() - since

    def stop(self, timeout: float) -> bool:
        """Stop after the current frame. False if that takes longer than ``timeout`` seconds."""
        with self._accepting:
            self._stopping = True
        self._refuse_the_rest()
        self._news.set()
        return not self._thread.goes_on(timeout)

    def _run(self) -> None:
        while not self._stopping:
            self._news.clear()
            self._since = time.monotonic()
            more = self._answer()
            for stream in self._streams:
                self._since = time.monotonic()
                try:
                    more |= stream.step()
                except Exception:  # must not happen, and must not end this thread
                    traceback.print_exc()
            self._since = None
            if not more:
                self._news.wait(IDLE)

    def _answer(self) -> bool:
        try:
            function, answer = self._requests.get_nowait()
        except queue.Empty:
            return False
        answer.settle_with(function)
        return True

    def _refuse_the_rest(self) -> None:
        while True:
            try:
                _, answer = self._requests.get_nowait()
            except queue.Empty:
                return
            answer.settle(error=Refused("the node was deactivated"))
