from importlib.metadata import PackageNotFoundError, version

import pytest

from jaxft import cli, doctor
from jaxft.doctor import BAD, FINE, NOTE


def test_this_machine_is_fit_for_jaxft(capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cli.main(["doctor"]) == cli.DONE, capsys.readouterr().out
    text = capsys.readouterr().out
    assert text.endswith("\nnothing is in the way\n")
    assert f"jax {version('jax')}, " in text
    assert "cpu" in text
    assert "XLA_FLAGS=" in text, "the tests set it"


@pytest.mark.parametrize(
    ("number", "kind", "grades"),
    [
        ("0.10.2", "gpu", [NOTE]),
        ("0.11.0", "gpu", [NOTE]),
        ("0.11.2", "gpu", []),
        ("0.10.2", "cpu", []),
        ("0.11.1", "cpu", [BAD]),
        ("0.9.1", "tpu", [BAD]),
        ("0.12.0", "tpu", []),
    ],
)
def test_hazards_are_those_of_the_version_and_the_platform(number, kind, grades):
    found = doctor.hazards(number, kind)
    assert [each.grade for each in found] == grades
    assert all(each.advice for each in found)


def test_an_accelerator_that_jax_does_not_use_is_seen():
    assert [each.what for each in doctor.devices("cpu", lambda path: path == "/dev/nvidia0")] == [
        "there is an NVIDIA GPU, and jax does not use it"
    ]
    assert "jaxft[tpu]" in doctor.devices("cpu", lambda path: path == "/dev/accel0")[0].advice
    assert doctor.devices("gpu", lambda path: True) == []
    assert doctor.devices("cpu", lambda path: False) == []


@pytest.mark.parametrize(
    ("env", "config", "said"),
    [
        ({"XLA_FLAGS": "--x"}, {}, (NOTE, "XLA_FLAGS=--x")),
        ({}, {"jax_enable_x64": True}, (BAD, "jax_enable_x64 is on")),
        ({}, {"jax_debug_nans": True}, (BAD, "jax_debug_nans is on")),
        ({}, {"jax_disable_jit": True}, (BAD, "jax_disable_jit is on")),
        ({}, {"jax_enable_compilation_cache": False}, (NOTE, "compiled programs are not kept")),
        ({"HF_HUB_OFFLINE": "1"}, {}, (NOTE, "HF_HUB_OFFLINE is set")),
    ],
)
def test_settings_that_matter(env, config, said):
    assert [each[:2] for each in doctor.settings(env, config)] == [said]


def test_plain_settings_are_nothing_to_speak_of():
    assert (
        doctor.settings({"HF_HUB_OFFLINE": "0"}, {"jax_enable_x64": False, "jax_enable_compilation_cache": True}) == []
    )


def test_packages_that_are_missing_or_old():
    def found(name: str) -> str:
        if name == "rich":
            raise PackageNotFoundError
        return {"numpy": "1.26.4"}.get(name) or version(name)

    *bad, fine = doctor.packages(found)
    assert {each.what: each.advice for each in bad} == {
        "numpy 1.26.4": "pip install 'numpy>=2'",
        "rich is missing": "pip install 'rich>=13'",
    }
    assert fine.grade == FINE
    assert "flax " in fine.what


def test_extras_that_are_not_there_say_what_for():
    found = doctor.extras(lambda module: module != "torch")
    assert [each.grade for each in found] == [FINE, NOTE]
    assert found[1].what == "not installed: bench, for the peers of jaxft bench"


def test_a_gpu_gets_attention_as_one_kernel_or_a_note():
    assert doctor.attention("cpu", lambda: True) == []
    assert [each.grade for each in doctor.attention("gpu", lambda: True)] == [FINE]
    assert [each.grade for each in doctor.attention("gpu", lambda: False)] == [NOTE]


def test_what_is_bad_gives_exit_code_2(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "examine", lambda: [doctor.Finding(BAD, "no", "do this")])
    assert cli.main(["doctor"]) == cli.BAD_INPUT
    assert capsys.readouterr().out == "bad   no\n      -> do this\n\n1 in the way\n"
    assert cli.main(["doctor", "x"]) == cli.BAD_INPUT
    assert cli.main(["doctor", "--help"]) == cli.DONE


def test_a_folder_that_cannot_be_written(tmp_path, monkeypatch):
    monkeypatch.setattr(doctor.os, "access", lambda path, mode: False)
    assert doctor._folder("programs", tmp_path / "a" / "b").grade == BAD
