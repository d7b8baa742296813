import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxft import members
from jaxft.errors import BadInput
from jaxft.members import Argument, spec
from jaxft.members.spec import Call

NAMES = st.from_regex(r"[a-z][a-z0-9_]{0,8}z", fullmatch=True)
VALUES = st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.booleans() | st.text()
CALLS = st.lists(st.builds(Call, NAMES, st.dictionaries(NAMES, VALUES, max_size=3)), min_size=1, max_size=4)


@given(CALLS)
def test_parse_reads_what_write_writes(calls):
    read = spec.parse(spec.write(calls))
    assert read == tuple(calls)
    types = [[type(x) for x in call.args.values()] for call in calls]
    assert [[type(x) for x in call.args.values()] for call in read] == types


def test_parse():
    assert spec.parse(" a | b(x=-1, y='s', z=.5, w=True)|c() ") == (
        Call("a", {}),
        Call("b", {"x": -1, "y": "s", "z": 0.5, "w": True}),
        Call("c", {}),
    )


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", None),
        ("a|", None),
        ("a b", None),
        ("a(0.1)", 3),
        ("a(x=0.1, 3)", None),
        ("a(x=[1])", 5),
        ("a(x={[]: 1})", 5),
        ("a(x=1+1)", 5),
        ("a(x=__import__('os'))", 5),
        ("a(x=1e999)", 5),
        ("a(x=None)", 5),
        ("a(**{'x': 1})", 5),
        ("a(x=1, x=2)", 1),
        ("a & b", 1),
        ("é|b|3", 5),
        ("a.b", 1),
        ("a()()", 1),
        ("a|'\\d'", 3),
        ("a\0", 1),
        ("(" * 5000, None),
        ("lambda: 0", 1),
    ],
)
def test_parse_says_where_it_went_wrong(text, position):
    with pytest.raises(BadInput, match=r"expected names with keyword arguments, such as .*, found ") as caught:
        spec.parse(text)
    assert "\n" not in str(caught.value)
    assert position is None or f"at position {position}:" in str(caught.value)


@pytest.fixture
def toys(tmp_path, monkeypatch):
    """A registry of two methods."""
    head = "import jax  # a signature is read without running this\nraise RuntimeError\n"
    (tmp_path / "mixout.py").write_text(f"{head}def mixout(p: float = 0.9, *, hard: bool = False): ...")
    (tmp_path / "reinit.py").write_text(f"{head}def reinit(layers: int = 5, how: str = 'normal', std: float = 1): ...")
    (tmp_path / "_hidden.py").write_text("")
    monkeypatch.setattr(members, "_folders", lambda kind: [str(tmp_path)])


@pytest.mark.usefixtures("toys")
def test_signatures_are_read_from_the_source():
    assert members.signature("mixout") == {"p": Argument(float, 0.9), "hard": Argument(bool, False)}
    assert members.signature("reinit")["std"] == Argument(float, 1.0)


@pytest.mark.usefixtures("toys")
def test_numbers_takes_the_floats_out_and_fills_the_rest_in():
    structure, floats = spec.numbers("mixout|reinit(layers=3)")
    assert structure == "mixout(hard=False)|reinit(layers=3, how='normal')"
    assert floats == {"method.mixout.p": 0.9, "method.reinit.std": 1.0}
    assert spec.numbers(structure) == (structure, floats)
    assert spec.numbers("mixout(p=1)")[1] == {"method.mixout.p": 1.0}


@pytest.mark.usefixtures("toys")
def test_numbers_with_changes():
    changes = {"method.mixout.p": 0, "method.reinit.layers": 1}
    structure, floats = spec.numbers("mixout(p=0.1)|reinit", changes)
    assert structure == "mixout(hard=False)|reinit(layers=1, how='normal')"
    assert floats["method.mixout.p"] == 0.0


@pytest.mark.usefixtures("toys")
@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("mixuot", {}, "unknown method 'mixuot'; did you mean mixout?"),
        ("_hidden", {}, "unknown method '_hidden'; known: mixout, reinit"),
        ("mixout(q=1)", {}, "mixout has no argument 'q'; known: hard, p"),
        ("mixout|reinit|mixout", {}, "mixout is there twice"),
        ("mixout(p='a')", {}, "method.mixout.p: expected a finite number, found 'a'"),
        ("mixout(p=True)", {}, "method.mixout.p: expected a finite number, found True"),
        ("mixout(hard=1)", {}, "method.mixout.hard: expected True or False, found 1"),
        ("reinit(layers=1.0)", {}, "method.reinit.layers: expected an integer, found 1.0"),
        (
            "mixout",
            {"method.mixout.P": 1},
            "method.mixout.P: not an argument of 'mixout'; did you mean method.mixout.p?",
        ),
        ("mixout", {"method.mixout.p": float("nan")}, "method.mixout.p: expected a finite number, found nan"),
    ],
)
def test_what_does_not_fit_a_signature(text, changes, message):
    with pytest.raises(BadInput) as caught:
        spec.numbers(text, changes)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("def toy(p: float): ...", "has no default"),
        ("def toy(*, p: float): ...", "has no default"),
        ("def toy(p=1.0): ...", "must be annotated"),
        ("def toy(p: list = []): ...", "must be annotated"),
        ("def other(): ...", "no function toy"),
    ],
)
def test_a_method_must_declare_types_and_defaults(tmp_path, monkeypatch, source, message):
    (tmp_path / "toy.py").write_text(source)
    monkeypatch.setattr(members, "_folders", lambda kind: [str(tmp_path)])
    with pytest.raises(TypeError, match=message):
        members.signature("toy")


RANGED = """from typing import Literal
def ranged(p: Share = 0.5, q: BelowOne = 0.0, r: NotNegative = 1, s: Positive = 1.0, n: Count = 1, m: Natural = 0,
           how: Literal["hard", "gradient"] = "hard"): ...
"""


@pytest.fixture
def ranged(tmp_path, monkeypatch):
    """A method with an argument of every range, and two that do not go with each other."""
    (tmp_path / "ranged.py").write_text(RANGED)
    (tmp_path / "left.py").write_text('CLASHES = {"right": "both train nothing"}\ndef left(): ...')
    (tmp_path / "right.py").write_text("def right(): ...")
    monkeypatch.setattr(members, "_folders", lambda kind: [str(tmp_path)])


@pytest.mark.usefixtures("ranged")
@pytest.mark.parametrize(
    ("arg", "least", "most", "outside", "accepted"),
    [
        ("p", 0, 1, (-1e-9, 1.0000001), "a number from 0 to 1"),
        ("q", 0.0, 0.9999, (-0.1, 1, 1.0), "a number from 0 and below 1"),
        ("r", 0, 3e38, (-1e-30,), "a finite number from 0 on"),
        ("s", 1e-30, 3e38, (0, 0.0, -1.0), "a finite number above 0"),
        ("n", 1, 10**6, (0, -1, 1.0, True), "an integer from 1 on"),
        ("m", 0, 10**6, (-1, 0.0), "an integer from 0 on"),
        ("how", "hard", "gradient", ("soft", "", 1), "'hard' or 'gradient'"),
    ],
)
def test_ranges(arg, least, most, outside, accepted):
    """Also of what a sweep changes; the ends belong to a range."""
    for value in (least, most):
        spec.numbers(f"ranged({arg}={value!r})")
        spec.numbers("ranged", {f"method.ranged.{arg}": value})
    for value in outside:
        shown = float(value) if arg in "pqrs" else value
        for text, changes in ((f"ranged({arg}={value!r})", {}), ("ranged", {f"method.ranged.{arg}": value})):
            with pytest.raises(BadInput) as caught:
                spec.numbers(text, changes)
            assert str(caught.value) == f"method.ranged.{arg}: expected {accepted}, found {shown!r}"


@pytest.mark.usefixtures("ranged")
@pytest.mark.parametrize(("arg", "value"), [("q", 0.999999999999), ("s", 1e-60), ("r", 1e39)])
def test_ranges_hold_for_what_32_bits_make_of_a_number(arg, value):
    with pytest.raises(
        BadInput, match=f"method.ranged.{arg}: expected .*, found {re.escape(repr(value))}, which 32 bits cannot hold"
    ):
        spec.numbers(f"ranged({arg}={value!r})")


@pytest.mark.usefixtures("ranged")
@pytest.mark.parametrize("text", ["left|right", "right|left", "right|ranged|left"])
def test_methods_that_clash_say_why(text):
    with pytest.raises(BadInput) as caught:
        spec.numbers(text)
    assert str(caught.value) == "method: left and right do not go together: both train nothing"
    assert spec.numbers("left|ranged")
    assert (members.clashes("left"), members.clashes("right")) == ({"right": "both train nothing"}, {})


def test_the_ranges_are_those_of_types():
    from jaxft import types

    for name, (kind, _, _) in members.RANGES.items():
        assert getattr(types, name) is kind


@pytest.mark.parametrize("source", ["p: Share = 2.0", "n: Count = 0", "how: Literal['a', 'b'] = 'c'", "q: float = 'x'"])
def test_a_default_must_be_in_its_range(tmp_path, monkeypatch, source):
    (tmp_path / "toy.py").write_text(f"def toy({source}): ...")
    monkeypatch.setattr(members, "_folders", lambda kind: [str(tmp_path)])
    with pytest.raises((TypeError, ValueError)):
        members.signature("toy")
