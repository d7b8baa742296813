"""The early-stopping mask: rules about one replica, checked inside the compiled block.

Every bound is one of the replica's numbers, and infinity when its rule is off: the program is the same with and without
the rules, so a mask that is never triggered changes no bit.
"""

from typing import NamedTuple

import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from jaxft.status import Status
from jaxft.types import Anywhere, Hyper


class Watch(NamedTuple):
    """How long a replica has broken each rule, in a row."""

    loss_above: Int[Array, ""]
    one_class: Int[Array, ""]
    majority: Int[Array, ""]


def watch() -> Watch:
    """Nothing seen yet."""
    return Watch(*(jnp.zeros((), jnp.int32) for _ in Watch._fields))


def after_step(
    seen: Watch, hyper: Hyper, loss: Float[Array, ""], finite: Bool[Array, ""]
) -> tuple[Watch, Int[Array, ""]]:
    """The rules of a step; `finite` says whether the gradient's norm is. Returns the status from here on."""
    bound = hyper("stop.loss_above")
    above = _count(seen.loss_above, jnp.isfinite(bound) & ~(loss <= bound))  # NaN is above every bound
    strict = hyper("stop.non_finite") > 0
    status = _first(
        (strict & ~jnp.isfinite(loss), Status.NON_FINITE_LOSS),
        (strict & ~finite, Status.NON_FINITE_GRADIENT),
        (above >= hyper("stop.loss_patience"), Status.LOSS_ABOVE),
    )
    return seen._replace(loss_above=above), status


def after_evaluation(
    seen: Watch, hyper: Hyper, logits: Float[Array, "N C"], labels: Int[Anywhere, " N"] | Float[Anywhere, " N"]
) -> tuple[Watch, Int[Array, ""]]:
    """The rules of an evaluation on the dev set. Returns the status from here on.

    Where the labels are numbers, "one class" is one and the same number for all examples, and "no better than the
    majority" a squared error no less than that of their mean.
    """
    if jnp.issubdtype(labels.dtype, jnp.floating):
        predicted = logits[:, 0]
        poor = jnp.sum((predicted - labels) ** 2) >= jnp.sum((labels - labels.mean()) ** 2)
    else:
        predicted = jnp.argmax(logits, axis=-1)
        counts = (labels[:, None] == jnp.arange(logits.shape[-1])[None, :]).sum(axis=0)
        poor = (predicted == labels).sum() <= counts.max()
    one_class = _count(seen.one_class, (predicted == predicted[0]).all())
    majority = _count(seen.majority, poor)
    status = _first(
        ((hyper("stop.non_finite") > 0) & ~jnp.isfinite(logits).all(), Status.NON_FINITE_LOGITS),
        (one_class >= hyper("stop.one_class"), Status.ONE_CLASS),
        (majority >= hyper("stop.majority"), Status.MAJORITY),
    )
    return seen._replace(one_class=one_class, majority=majority), status


def _count(before: Int[Array, ""], broken: Bool[Array, ""]) -> Int[Array, ""]:
    return jnp.where(broken, before + 1, 0)


def _first(*rules) -> Int[Array, ""]:
    """The status of the first rule that holds."""
    status = jnp.int32(Status.RUNNING)
    for broken, then in reversed(rules):
        status = jnp.where(broken, jnp.int32(then), status)
    return status
