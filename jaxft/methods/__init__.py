"""Ways to fine-tune, one file each: the file's name is the method's name in a study.

A method is a function `mixout(p: float = 0.9) -> Method` with a type and a default for every argument. Its
floats are numbers of the replica, which may be traced and swept ("method.mixout.p"); the rest shapes the
program.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache, reduce
from typing import Any, NamedTuple

from jaxft import members
from jaxft.members import spec
from jaxft.members.spec import numbers
from jaxft.types import Ctx, Hyper, Method, Params, Tx, unchanged

__all__ = ["Layer", "chain", "load", "numbers"]


class Layer(NamedTuple):
    """Marks, in the optimiser's state of a chain, where the state of the methods further left begins."""

    inner: Any


def load(text: str) -> Callable[[Hyper], Method]:
    """The method that a spec describes, as a function of the replica's numbers.

    Every float is asked for by its name ("method.mixout.p"), also one that is written in the spec: `numbers`
    is what takes the written ones out. It is the same function each time, unless a method in it was added: what such a
    one reads beside its arguments may have changed.

    Raises:
        BadInput: an unknown method or argument, or a value of the wrong type.
    """
    names = [call.name for call in spec.bind(spec.parse(text))]
    makers = tuple(map(members.member, names))
    return (_load if any(map(members.own, names)) else _kept)(text, makers)


def _load(text: str, makers: tuple[Callable[..., Method], ...]) -> Callable[[Hyper], Method]:
    calls = spec.bind(spec.parse(text))

    def make(hyper: Hyper) -> Method:
        filled = (
            {arg: hyper(f"method.{name}.{arg}") if isinstance(x, float) else x for arg, x in args.items()}
            for name, args in calls
        )
        return chain([maker(**args) for maker, args in zip(makers, filled, strict=True)])

    return make


_kept = lru_cache(maxsize=64)(_load)


def chain(methods: Sequence[Method]) -> Method:
    """One method that does what these do, from left to right: each edits, sees or wraps what came before.

    A view gets the state of its own method's tx. For this a state must hold that of the tx it wraps as its
    field `inner`; a method without a tx sees the state of what lies below it. The methods must not be chains
    themselves.
    """
    return reduce(_then, methods) if methods else Method()


def _then(first: Method, second: Method) -> Method:
    def view(params: Params, state: Any, ctx: Ctx) -> Params:
        return second.view(first.view(params, _below(state), ctx), state, ctx)

    return Method(
        start=lambda w0, key: second.start(first.start(w0, key), key),
        own=lambda params, w0, key: second.own(first.own(params, w0, key), w0, key),
        view=unchanged if first.view is second.view is unchanged else view,
        loss=lambda objective, forward, ctx: second.loss(first.loss(objective, forward, ctx), forward, ctx),
        tx=lambda inner: second.tx(_marked(first.tx(inner))),
        lead=lambda steps: first.lead(steps) + second.lead(steps),
    )


def _marked(tx: Tx) -> Tx:
    def update(grads: Params, state: Layer, params: Params, ctx: Ctx) -> tuple[Params, Layer]:
        updates, after = tx.update(grads, state.inner, params, ctx)
        return updates, Layer(after)

    return Tx(lambda params: Layer(tx.init(params)), update)


def _below(state: Any) -> Any:
    """The state under the topmost mark."""
    while not isinstance(state, Layer):
        state = state.inner
    return state.inner
