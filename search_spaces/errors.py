"""The errors that a caller can cause or meet, each with its exit code."""


class InputError(ValueError):
    """A caller's mistake: what was given, why it cannot be, what to do."""

    exit_code = 2


class MachineError(RuntimeError):
    """The machine lacks something that the call needs: a device, disk space, a permission."""

    exit_code = 3


class ConflictError(RuntimeError):
    """The content or the state of the run directory contradicts the call."""

    exit_code = 4


class NothingUsableError(RuntimeError):
    """The work was done and nothing usable came out of it."""

    exit_code = 5


class Interrupted(BaseException):
    """The user or the system asked the command to end.

    Args:
        signal_number: SIGINT or SIGTERM.
    """

    def __init__(self, signal_number: int) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
