"""Who writes to a run folder: the parts of a run that several processes are, and what keeps two from one part.

On this machine a part holds a lock (POSIX, so its end frees it, however it ends); on an object store, which has no
locks, a lease that it renews. A run without a shard wants the folder for itself, a shard only its own share of it.
No jax here.
"""

import errno
import json
import os
import re
import socket
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple

from jaxft.errors import BadInput, Note
from jaxft.folder import Folder

RENEWED = 60.0
"""Seconds between two renewals of a lease."""
STALE = 600.0
"""Seconds without one, after which its process is taken for dead."""

Shard = tuple[int, int]
_SHARD = r"(?:-(?P<index>\d+)of(?P<count>\d+))?"
_FLUSH = re.compile(rf"\d+{_SHARD}(?:-p\d+)?\.parquet")
_LOCK = re.compile(rf"\.(?:lock|lease){_SHARD}")


class Part(NamedTuple):
    """Which part of a run this process is."""

    shard: Shard | None = None
    """Such as (3, 8): the third of eight shares, which run without knowing of each other. None: all trials."""
    process: int = 0
    """Among those that train together."""
    processes: int = 1

    @property
    def key(self) -> str:
        """What names of its shard have in them: "-3of8"; nothing without a shard."""
        return f"-{self.shard[0]}of{self.shard[1]}" if self.shard else ""

    @property
    def name(self) -> str:
        """What the names of files have in them that no other part writes: "-3of8-p1"."""
        return f"{self.key}{f'-p{self.process}' if self.process else ''}"

    def flush(self, number: int) -> str:
        """The name of such a file: 000012-3of8-p1.parquet."""
        return f"{number:06d}{self.name}.parquet"

    def may_remove(self, name: str) -> bool:
        """Whether a file without its twin is ours to remove: not what another shard may be writing."""
        found = _FLUSH.fullmatch(name)
        return found is not None and not _together(self.shard, _shard(found))


class Held(NamedTuple):
    """A part that is this process's."""

    check: Callable[[], None]
    """Raises BadInput where another process has taken it."""
    release: Callable[[], None]


UNHELD = Held(lambda: None, lambda: None)
"""For processes that rely on another one's lock."""


def suffix(name: str) -> str | None:
    """What a part calls its flushes: "-3of8-p1" of 000012-3of8-p1.parquet; None where no part wrote the file."""
    return name.removesuffix(".parquet").lstrip("0123456789") if _FLUSH.fullmatch(name) else None


@contextmanager
def alone(folder: Folder) -> Iterator[None]:
    """Within it no other process is within it: what is read, changed and written again stays as read.

    It waits for the other. On an object store it does nothing.
    """
    if folder.local is None:
        yield
        return
    import fcntl  # of POSIX alone, while reading a run folder works anywhere

    descriptor = os.open(folder.local / ".open", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def others(folder: Folder, part: Part) -> bool:
    """Whether other shards of the same count are being run.

    Raises:
        BadInput: what is being run there leaves no room for this part.
    """
    found = False
    for name, shard in _names(folder):
        in_our_way = not _together(part.shard, shard)
        who = _leased(folder, name) if folder.local is None else _locked(folder.local / name)
        if who and in_our_way:
            which = f"shard {shard[0]}/{shard[1]} of it" if shard else "to it"
            rule = ""
            if part.shard and shard and part.shard[1] != shard[1]:
                rule = f"; shards that run at the same time are of one number, not of {part.shard[1]} and {shard[1]}"
            raise BadInput(
                f"{folder}: another process writes {which} ({who}){rule}; wait for it, or give another `out`"
            )
        found |= bool(who)
    return found


def take(folder: Folder, part: Part) -> Held:
    """Makes the part this process's, until `release` or its end. To be called after `others`, both within `alone`.

    A lock is among processes, not within one. A lease is renewed every minute by a thread, and removed at the end; ten
    minutes after the last renewal another process may take it. It guarantees less than a lock. Of two processes that
    begin at the same moment both may go on for a while, and so may one that was suspended for ten minutes and wakes;
    then `check` tells the one whose lease was replaced, before it writes its next rows. A flush that was under way
    in that moment may still be written: the two name their files alike, so the later one stands. Clocks that differ by
    minutes make a lease live too long or too short. Leases compare whole objects: the store must show at once what
    was put, as S3, GCS and Azure do.

    Raises:
        BadInput: another process has it.
    """
    if folder.local is not None:
        return _lock(folder, f".lock{part.key}")
    for name, shard in _names(folder):
        if not _together(part.shard, shard) and not _leased(folder, name):
            _take_over(folder, name)
    held = _lease(folder, f".lease{part.key}")
    try:
        held.check()
        others(folder, part)  # who began at the same moment: at least one of the two sees the other
    except BaseException:
        held.release()
        raise
    return held


def _names(folder: Folder) -> list[tuple[str, Shard | None]]:
    return [(name, _shard(found)) for name in folder.list() if (found := _LOCK.fullmatch(name))]


def _shard(found: re.Match) -> Shard | None:
    return (int(found["index"]), int(found["count"])) if found["index"] else None


def _together(mine: Shard | None, other: Shard | None) -> bool:
    """Whether both may be run at the same time: two different shards of the same number of them."""
    return mine is not None and other is not None and mine[1] == other[1] and mine[0] != other[0]


def _who() -> str:
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
    return f"host {socket.gethostname()}, process {os.getpid()}, since {since}"


def _locked(path: os.PathLike) -> str:
    """Who holds the lock; empty where nobody does."""
    import fcntl

    descriptor = os.open(path, os.O_RDWR)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            raise
        return " ".join(os.pread(descriptor, 300, 0).decode(errors="replace").split()) or "it does not say who"
    finally:
        os.close(descriptor)
    return ""


def _lock(folder: Folder, name: str) -> Held:
    import fcntl

    assert folder.local is not None
    descriptor = os.open(folder.local / name, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.lockf(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{_who()}\n".encode(), 0)
    except OSError as error:
        os.close(descriptor)
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise BadInput(f"{folder}: another process writes to it; wait for it, or give another `out`") from None
        raise
    return Held(lambda: None, lambda: os.close(descriptor))


def _leased(folder: Folder, name: str) -> str:
    """Who holds the lease; empty where nobody does, or its process is dead."""
    found = _read(folder, name)
    if found is None or _dead(found) or _age(found) > STALE:
        return ""
    return f"{found['who']}; its lease {folder.place(name)} ends {STALE / 60:.0f} minutes after the last renewal"


def _age(lease: dict[str, Any]) -> float:
    return time.time() - lease["time"]


def _take_over(folder: Folder, name: str) -> None:
    """Removes a lease, so that its process, should it wake, finds it gone."""
    found = _read(folder, name)
    if found is not None and not _dead(found):
        said = f"not renewed for {_age(found) / 60:.0f} minutes ({found['who']}): its process is taken for dead"
        warnings.warn(Note(f"{folder.place(name)}: {said}"), stacklevel=2)
    folder.remove(name)


def _dead(lease: dict[str, Any]) -> bool:
    """Whether its process, on this host, is gone; this one's number is that of an earlier life."""
    if lease["host"] != socket.gethostname():
        return False
    try:
        os.kill(lease["pid"], 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return lease["pid"] == os.getpid()


def _read(folder: Folder, name: str) -> dict[str, Any] | None:
    """A lease; None where there is none."""
    try:
        found = json.loads(folder.read(name))
        who, host, token = (str(found[key]) for key in ("who", "host", "token"))
        return {"who": who, "host": host, "token": token, "pid": int(found["pid"]), "time": float(found["time"])}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError, OverflowError):
        raise BadInput(f"{folder.place(name)}: not a lease; remove it, if no process writes to the folder") from None


def _lease(folder: Folder, name: str) -> Held:
    who, token, over = _who(), uuid.uuid4().hex, threading.Event()

    def put() -> None:
        lease = {"who": who, "host": socket.gethostname(), "pid": os.getpid(), "token": token, "time": time.time()}
        folder.write(name, json.dumps(lease).encode())

    def now() -> dict[str, Any]:
        return _read(folder, name) or {"token": "", "who": "its lease was removed"}

    def check() -> None:
        found = now()
        if found["token"] != token:
            raise BadInput(
                f"{folder}: another process has taken it from this one ({found['who']}); finished trials are kept"
            )

    def renew() -> None:
        while not over.wait(RENEWED):
            with suppress(OSError, BadInput):  # a store that cannot be reached for a while
                if now()["token"] != token:
                    return
                put()

    def release() -> None:
        over.set()
        thread.join(30)  # it may be writing
        with suppress(OSError, BadInput):
            if now()["token"] == token:
                folder.remove(name)

    put()
    thread = threading.Thread(target=renew, name="jaxft-lease", daemon=True)
    thread.start()
    return Held(check, release)
