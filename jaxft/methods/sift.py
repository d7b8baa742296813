"""SIFT: of each tensor only the entries with the largest gradients are trained."""

from typing import Any, NamedTuple

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from jaxft import tree
from jaxft.errors import BadInput
from jaxft.rare import cond_any
from jaxft.types import Count, Ctx, Method, Params, Tx


class Chosen(NamedTuple):
    """The state of SIFT."""

    where: dict[str, Int[Array, " k"]]
    """By sparse tensor, the chosen entries of its flattened self, ascending; zeros before the first step."""
    inner: Any
    """Of the optimiser, on the chosen entries alone."""


def sift(per_mille: Count = 8, targets: str = "query,key,value,attention_out") -> Method:
    """Trains of each tensor the entries that had the largest gradients in the first batch.

    With g the gradient of step 0, of each tensor that is a target:

        k = floor(size * per_mille / 1000) + 1,   chosen = the k entries of largest abs(g), of equal ones the first
        p <- p + Adam's update   where chosen;   p = w0 elsewhere

    The optimiser sees the chosen entries alone: of them are its moments, its weight decay and the norm of its clip.

    Owns: kernels and biases of the targets, and the head, which is trained whole, as in the authors' code. Adam's state
    holds the chosen entries alone; beside it are their indices. The parameters stay dense, for evaluations read them.
    Off: at no setting is it vanilla: the embeddings and all that is no target stay.
    Hazards: the authors' code chooses by a batch that it does not train on; here the first batch is trained on too. The
    paper's rate is 7e-5. Replicas of one program may choose otherwise, each by its own first batch, but equally much.

    Args:
        per_mille: how much of each tensor; 8 is the paper's 0.8 %, 1000 is all. A whole number, since k is the length
            of Adam's state: a float may differ among replicas of one program, and shapes may not.
        targets: names of maps, or patterns, as for `lora`; the default is that of the paper's runs on GLUE.

    Raises:
        BadInput: a target that matches nothing, or per_mille above 1000 (when the method is traced).

    Source:
        Song et al. 2024, "Sparse is enough in fine-tuning pre-trained large language models" (arXiv 2312.11875),
        section 4, and its code.
    """

    def own(params: Params, w0: Params, key) -> Params:
        if per_mille > 1000:
            raise BadInput(f"method.sift.per_mille: found {per_mille}, accepted: 1 to 1000")
        sparse = tree.maps(w0, targets, "method.sift.targets")
        return {name: x for name, x in params.items() if name.rpartition("/")[0] in sparse or tree.head(name)}

    def count(x: Array) -> int:
        return min(x.size * per_mille // 1000 + 1, x.size)

    def tx(inner: Tx) -> Tx:
        def init(params: Params) -> Chosen:
            where = {name: jnp.zeros(count(x), jnp.int32) for name, x in params.items() if not tree.head(name)}
            return Chosen(where, inner.init(gathered(params, where)))

        def update(grads: Params, state: Chosen, params: Params, ctx: Ctx) -> tuple[Params, Chosen]:
            sparse = {name: grads[name] for name in state.where}
            where = cond_any(
                ctx.step == 0, lambda where, g: largest(g, where), lambda where, _: where, state.where, sparse
            )
            few = ctx._replace(w0=gathered(ctx.w0, where))
            updates, after = inner.update(gathered(grads, where), state.inner, gathered(params, where), few)
            return scattered(updates, where, params), Chosen(where, after)

        return Tx(init, update)

    return Method(own=own, tx=tx)


def largest(grads: Params, like: dict[str, Array]) -> dict[str, Int[Array, " k"]]:
    """Where the entries of largest magnitude are, as many as `like` has of each; ascending."""
    tops = {name: lax.top_k(jnp.abs(g.reshape(-1)), like[name].size)[1] for name, g in grads.items()}
    return {name: jnp.sort(top) for name, top in tops.items()}


def gathered(dense: Params, where: dict[str, Array]) -> Params:
    """The chosen entries of the sparse tensors; the others whole."""
    return {name: x.reshape(-1)[where[name]] if name in where else x for name, x in dense.items()}


def scattered(few: Params, where: dict[str, Array], like: Params) -> Params:
    """The inverse, with 0 at all other entries."""

    def whole(name: str, x: Array) -> Array:
        if name not in where:
            return x
        zeros = jnp.zeros(like[name].size, x.dtype)
        return zeros.at[where[name]].set(x, unique_indices=True, indices_are_sorted=True).reshape(like[name].shape)

    return {name: whole(name, x) for name, x in few.items()}
