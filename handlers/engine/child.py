"""A process of its own for code that may crash, hang or do what it likes: it answers messages, one at a time.

Messages, both ways, are what msgpack holds (None, bool, int, float, str, bytes, list, dict) and arrays of NumPy.
"""

import contextlib
import ctypes
import importlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
import weakref
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import handlers
from handlers.engine.isolation import ChildError, ChildFault
from handlers.engine.messages import encode, receive, send
from handlers.observe.settings import Credentials

logger = logging.getLogger(__name__)
START = 300.0  # s that a child may take until it can answer
MOST_PAUSE = 30.0  # s between two starts
KILLED = 60.0  # s that the system may take to end a process that is killed
_PROGRAM = "from handlers.engine.child import main; main()"
_PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of <linux/prctl.h>


class Child:
    """A process with a function of ours, which answers messages.

    It starts again when it ends, at once after an answer, else after a pause that doubles. It ends with this object and
    with this process. Any thread may ask.

    Args:
        target: ``package.module:function``, imported there. It is called with the arguments as keywords, and returns
            the function that makes an answer of a message.
        arguments: of the function, as JSON has them.
        start: s that it may take until it can answer.

    Raises:
        ChildFault: the function raised.
        ChildError: it did not start otherwise.
    """

    def __init__(self, target: str, arguments: Mapping[str, Any], start: float = START) -> None:
        self._keeper = _Keeper(target, arguments, start)
        self._turn = threading.Lock()
        self.close = weakref.finalize(self, self._keeper.close)
        # The thread starts every process: the system ends them with the thread that did.
        threading.Thread(target=self._keeper.run, name=f"child {target}", daemon=True).start()
        try:
            self._keeper.ready(time.monotonic() + start)
        except ChildError:
            self.close()
            raise

    @property
    def pid(self) -> int:
        """Number of the process; another one once it has started again."""
        return self._keeper.pid

    def ask(self, message: Any, timeout: float) -> Any:
        """Return the answer to a message.

        Args:
            timeout: s for all: until other messages are answered and the process has started, too. A process that has
                not answered by then is killed.

        Raises:
            ChildFault: its code raised; it goes on.
            ChildError: it ended or took too long; it starts again.
            TypeError: the message cannot be sent.
        """
        body = encode(message)
        end = time.monotonic() + timeout
        if not self._turn.acquire(timeout=timeout):
            raise ChildError(f"the process was still busy with other messages after {timeout:g} s")
        try:
            return self._keeper.ask(body, end)
        finally:
            self._turn.release()


class _Process:
    """One process, and our end of its socket."""

    def __init__(self) -> None:
        self._socket, other = socket.socketpair()
        self._used = threading.Lock()  # the socket stays open while it is held
        package = str(Path(handlers.__file__).parents[1])
        secrets = {setting.variable for setting in Credentials.settings().values()}
        environ = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") not in secrets}
        environ["PYTHONPATH"] = os.pathsep.join([package, *(str(Path(entry).absolute()) for entry in sys.path)])
        command = [sys.executable, "-P", "-c", _PROGRAM, str(other.fileno()), str(os.getpid())]
        with other:
            self._process = subprocess.Popen(command, env=environ, stdin=subprocess.DEVNULL, pass_fds=[other.fileno()])
        self.pid, self.kill = self._process.pid, self._process.kill

    def exchange(self, body: bytes, end: float) -> Any:
        """Send a message and return the answer.

        Raises:
            ChildFault: the code raised.
            ChildError: there is no answer; the process is killed.
        """
        try:
            with self._used:
                send(self._socket, body, end)
                reply = receive(self._socket, end)
        except (OSError, EOFError) as error:
            self.kill()  # does nothing to one that ends already
            self._process.wait(KILLED)
            late = isinstance(error, TimeoutError)
            raise ChildError("had no answer in time, and was killed" if late else self.last_words()) from None
        match reply:
            case [True, answer]:
                return answer
            case [False, [str(kind), str(message), str(trace)]]:
                raise ChildFault(kind, message, trace)
        self.kill()
        raise ChildError("sent what is no answer, and was killed")

    def wait(self) -> None:
        """Wait until it has ended."""
        self._process.wait()
        self._socket.shutdown(socket.SHUT_RDWR)  # wakes who waits for an answer, also where a grandchild lives on
        with self._used:
            self._socket.close()

    def last_words(self) -> str:
        """Return how it ended."""
        code = self._process.returncode
        if code is None or code >= 0:
            return f"ended with {code}"
        known = -code in set(signal.Signals)
        return f"was ended by {signal.Signals(-code).name if known else f'signal {-code}'}"


class _Keeper:
    """Keeps a process running; what it holds does not hold the ``Child``, so that this one can go."""

    def __init__(self, target: str, arguments: Mapping[str, Any], start: float) -> None:
        self._first, self._start = encode([target, dict(arguments)]), start
        self._changed = threading.Condition()
        self._process: _Process | None = None  # the newest
        self._ready: _Process | None = None  # the same, where it can answer
        self._fault: ChildError | None = None  # why the last start failed
        self._closed = False
        self._failures = 0  # ends since the last answer

    @property
    def pid(self) -> int:
        return self._process.pid if self._process else 0

    def run(self) -> None:
        """Start the process, and again whenever it ends."""
        while True:
            with self._changed:
                if self._closed:
                    return
                self._process = process = _Process()
            fault = None
            try:
                process.exchange(self._first, time.monotonic() + self._start)
            except ChildError as error:
                process.kill()
                fault = error if isinstance(error, ChildFault) else ChildError(f"the process did not start: it {error}")
            with self._changed:
                self._ready, self._fault = None if fault else process, fault
                self._changed.notify_all()
                if self._closed:
                    process.kill()
            process.wait()
            with self._changed:
                self._ready = None
                self._failures += 1
                if not self._closed:
                    pause = min(MOST_PAUSE, 2.0 ** (self._failures - 3)) if self._failures > 1 else 0.0
                    logger.error("a child %s; it starts again in %.3g s", process.last_words(), pause)
                    self._changed.wait_for(lambda: self._closed, pause)

    def ready(self, end: float) -> _Process:
        """Return a process that can answer; wait for it until a time.

        Raises:
            ChildError: there is none.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._fault or self._closed, end - time.monotonic())
            if self._closed or not self._ready:
                raise self._fault or ChildError(f"the process is {'closed' if self._closed else 'being started'}")
            return self._ready

    def ask(self, body: bytes, end: float) -> Any:
        process = self.ready(end)
        try:
            answer = process.exchange(body, end)
        except ChildFault:
            raise
        except ChildError as error:
            with self._changed:
                self._ready = None if self._ready is process else self._ready
            raise ChildError(f"the process {error}") from None
        self._failures = 0
        return answer

    def close(self) -> None:
        with self._changed:
            self._closed = True
            if self._process:
                self._process.kill()
            self._changed.notify_all()


def main() -> None:
    """Answer messages, in the child, until its parent's end of the socket is closed."""
    descriptor, parent = map(int, sys.argv[1:])
    for number in (signal.SIGINT, signal.SIGTERM):  # a terminal sends them to parents and children
        signal.signal(number, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(_PARENT_DEATH_SIGNAL, signal.SIGKILL)
    if os.getppid() != parent:  # it ended meanwhile
        return
    with socket.socket(fileno=descriptor) as sock, contextlib.suppress(EOFError, BrokenPipeError, ConnectionError):
        target, arguments = receive(sock)
        module, _, name = target.partition(":")
        started: list[Callable[[Any], Any]] = []
        reply = _reply(lambda _: started.append(getattr(importlib.import_module(module), name)(**arguments)), None)
        send(sock, reply)
        while started:
            send(sock, _reply(started[0], receive(sock)))


def _reply(run: Callable[[Any], Any], message: Any) -> bytes:
    try:
        return encode([True, run(message)])
    except Exception as error:
        return encode([False, [type(error).__name__, str(error), traceback.format_exc()]])
