"""One interface to a folder on this machine and to one on an object store; fsspec's own stores stand for the latter."""

import os
import uuid
from pathlib import Path

import pytest
from fsspec.implementations.memory import MemoryFileSystem
from fsspec.registry import known_implementations

from jaxft.errors import BadInput
from jaxft.folder import Folder, split


@pytest.fixture(params=["path", "text", "file", "local", "memory"])
def folder(request, tmp_path) -> Folder:
    place = {
        "path": tmp_path / "run",
        "text": f"{tmp_path}/run/",
        "file": f"file://{tmp_path}/run",
        "local": f"local://{tmp_path}/run/",
        "memory": f"memory://{uuid.uuid4().hex}/runs/run/",
    }
    return Folder.at(place[request.param])


def test_what_is_written_is_there(folder):
    folder.make()
    folder.make("trials")
    assert folder.list() in ([], ["trials"])
    assert folder.list("trials") == []
    for name in ("trials/b", "trials/a", "c.yaml"):
        folder.write(name, name.encode())
    folder.write("c.yaml", b"now this")
    assert folder.list() == ["c.yaml", "trials"]
    assert folder.list("trials") == ["a", "b"]
    assert folder.read("trials/a") == b"trials/a"
    assert folder.read("c.yaml") == b"now this"
    assert folder.exists("trials/a")
    assert not folder.exists("trials")
    assert not folder.exists("trials/z")
    folder.remove("trials/a")
    folder.remove("trials/a")
    assert folder.list("trials") == ["b"]


def test_what_is_not_there(folder):
    assert folder.list() == folder.list("no") == []
    assert not folder.exists("a")
    folder.remove("a")
    with pytest.raises(FileNotFoundError) as caught:
        folder.read("a")
    assert caught.value.strerror == "No such file or directory"


def test_the_text_names_the_same_folder(folder):
    folder.make()
    folder.write("a", b"1")
    assert Folder.at(str(folder)).read("a") == b"1"
    assert Folder.at(folder) is folder
    assert folder.place("a") == f"{folder}/a"
    assert not str(folder).endswith("/")
    assert (folder.local is None) == str(folder).startswith("memory://")
    if folder.local is not None:
        assert (folder.local / "a").read_bytes() == b"1"
    there, name = split(f"{folder}/a")
    assert there.read(name) == b"1"


def test_plain_names_stay_plain():
    for name in ("runs/a", "runs/a::b", "a:b", "x[1]", "Grüße", "."):
        assert Folder.at(name).local == Folder.at(Path(name)).local == Path(name)
        assert str(Folder.at(name)) == name


@pytest.mark.parametrize(
    ("place", "said"),
    [
        ("nope://bucket/run", "nope://bucket/run: cannot be used (Protocol not known: nope); give a path, or a URL"),
        ("git://x", "git://x: cannot be used ("),
    ],
)
def test_a_store_that_is_not_known(place, said):
    with pytest.raises(BadInput) as caught:
        Folder.at(place)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_store_whose_package_is_not_installed_says_what_to_install(monkeypatch):
    missing = {"class": "jaxft_no_such_package.Store", "err": "Please install it"}
    monkeypatch.setitem(known_implementations, "nostore", missing)
    with pytest.raises(BadInput) as caught:
        Folder.at("nostore://bucket/run")
    assert str(caught.value) == (
        "nostore://bucket/run: cannot be used (Please install it); "
        "`pip install jaxft_no_such_package`, or give another folder"
    )


class Odd(Exception):
    """As the errors of most object stores: no OSError."""


@pytest.mark.parametrize("name", ["cat_file", "pipe_file", "ls", "info", "rm_file"])
def test_whatever_a_store_raises_is_an_os_error(monkeypatch, name):
    folder = Folder.at(f"memory://{uuid.uuid4().hex}")
    folder.write("a", b"1")

    def fail(*args, **kwargs):
        raise Odd("401\nnot you")

    monkeypatch.setattr(MemoryFileSystem, name, fail)
    call = {
        "cat_file": lambda: folder.read("a"),
        "pipe_file": lambda: folder.write("a", b"2"),
        "ls": folder.list,
        "info": lambda: folder.exists("a"),
        "rm_file": lambda: folder.remove("a"),
    }
    with pytest.raises(OSError, match="401 not you"):
        call[name]()


def test_nothing_is_read_from_a_cache_of_listings(monkeypatch):
    """A store that lists what it saw first, until it is told to forget."""
    folder, seen = Folder.at(f"memory://{uuid.uuid4().hex}"), {}
    real = MemoryFileSystem.ls
    monkeypatch.setattr(MemoryFileSystem, "invalidate_cache", lambda self, path=None: seen.clear())
    monkeypatch.setattr(
        MemoryFileSystem, "ls", lambda self, path, **how: seen.setdefault(path, real(self, path, **how))
    )
    folder.write("a", b"1")
    assert folder.list() == ["a"]
    folder.write("b", b"1")
    assert folder.list() == ["a", "b"]


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
def test_a_file_is_there_as_a_whole_or_as_it_was(tmp_path, monkeypatch, moment):
    folder = Folder.at(tmp_path)
    folder.write("a", b"before")

    def full(*args):
        raise OSError(28, "No space left on device")

    if moment == "write":
        real = Path.open
        monkeypatch.setattr(Path, "open", lambda self, mode: real(Path("/dev/full"), mode, buffering=0))
    else:
        monkeypatch.setattr(os, moment, full)
    with pytest.raises(OSError, match="No space left on device"):
        folder.write("a", b"after" * 1000)
    monkeypatch.undo()
    assert folder.read("a") == b"before"
    assert folder.list() == ["a"]
