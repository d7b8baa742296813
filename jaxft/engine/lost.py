"""What becomes of a process when jax finds that another one of its run is gone. No jax here."""

import ctypes
import os
import re
import signal
import sys
import threading
from collections.abc import Callable

_SIGN = re.compile(rb"^[EF]\d+ .*(coordination_service|distributed service)")


def watch(gone: Callable[[bool], None]) -> None:
    """From now on `gone` is called then, in a thread of its own, to end the process: with True where jax would abort.

    Left alone, jax's runtime writes a stack of C++ to stderr and aborts. It has a callback, but gives it something that
    Python has no type for. So what it writes to stderr, under Python, goes through a pipe, and its first words are the
    sign; all else is passed on.
    """
    real = os.dup(2)
    out, into = os.pipe()
    os.dup2(into, 2)
    os.close(into)
    sys.stderr = open(real, "w", buffering=1, errors="backslashreplace", closefd=False)  # noqa: SIM115
    threading.Thread(target=_pass_on, args=(out, real, gone), name="jaxft-lost", daemon=True).start()
    # The thread that aborts is to leave us the time. A handler in Python would run too late, so it is libc's sleep(6):
    # 6 is the number of the signal, which is all that a handler is given. After that the process ends as ever.
    libc = ctypes.CDLL(None)
    libc.signal(signal.SIGABRT, ctypes.cast(libc.sleep, ctypes.c_void_p))


def _pass_on(out: int, real: int, gone: Callable[[bool], None]) -> None:
    with open(out, "rb") as lines:
        for line in lines:
            if _SIGN.match(line):
                gone(line.startswith(b"F"))
            os.write(real, line)
