"""A flag that the first SIGINT or SIGTERM sets."""

import contextlib
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from search_spaces.errors import Interrupted


class StopFlag:
    """Set by the first SIGINT or SIGTERM and checked between steps; the second signal ends the process at once."""

    def __init__(self) -> None:
        self.signal_number: int | None = None
        self._at_once = False

    def __call__(self) -> None:
        """Raise Interrupted if a signal came."""
        if self.signal_number is not None:
            raise Interrupted(self.signal_number)

    def _receive(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002  the signal module's form
        self.signal_number = number
        signal.signal(number, signal.SIG_DFL)
        if self._at_once:
            raise Interrupted(number)

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Receive the two signals inside the block."""
        previous = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                # Where blocks are nested, the second signal must still end the process.
                is_spent = handler == self._receive and number == self.signal_number
                signal.signal(number, signal.SIG_DFL if is_spent else handler)

    @contextmanager
    def overheard(self) -> Iterator[None]:
        """Notice a signal inside the block even if its handler is Ray's, whose exception C code may drop."""
        reader, writer = socket.socketpair()
        reader.setblocking(False)
        writer.setblocking(False)
        previous = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(previous)
            with contextlib.suppress(BlockingIOError):
                received = {signal.SIGINT, signal.SIGTERM}.intersection(reader.recv(100))
                self.signal_number = self.signal_number or next(iter(received), None)
            reader.close()
            writer.close()

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Raise Interrupted at once on a signal inside the block: for long work that writes nothing."""
        self()
        self._at_once = True
        try:
            yield
        finally:
            self._at_once = False
