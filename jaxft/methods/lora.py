"""LoRA: low-rank maps beside frozen ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxft import keys, tree
from jaxft.types import Count, Method, Params, Positive

CLASHES = {"adapter": "each trains what it adds and the head, so that of both the head alone would be trained"}


def lora(rank: Count = 8, alpha: Positive = 16.0, targets: str = "query,value", pooler: bool = False) -> Method:
    """Trains a map of low rank beside each chosen linear map of the layers, in its stead.

    With W [inputs, outputs] and b as they were pretrained, A [inputs, rank] and B [rank, outputs]:

        y = x W + s (x A) B + b,   s = alpha / rank
        at the start  A from U(-1, 1) / sqrt(inputs),   B = 0

    so that at first the model is the pretrained one. A is drawn as in the authors' code (Kaiming's uniform with a =
    sqrt(5)), from the trial's init seed and its name; the columns of a larger rank begin with those of a smaller one.
    W is never differentiated, nor is W + s A B ever made in training.

    Owns: A, B and the head. The pooler is frozen, as in peft, which trains what is called classifier, unless `pooler`
    says otherwise; RoBERTa's head includes its dense layer. Weight decay acts on A and B as on any kernel. Weights are
    written with s A B folded into W (`models.merged`).
    Off: at no setting is it vanilla.
    Hazards: a pooler that the checkpoint lacks stays random unless `pooler` is True. Rates of 1e-4 to 5e-4 are usual.
    The rank and the targets shape the program; alpha may be swept within one.

    Args:
        rank: of the added maps.
        alpha: their strength; usually one or two times the rank.
        targets: names of maps with commas between them (query, key, value, attention_out, intermediate, output), or
            patterns of the shell; with a slash they are for whole names ("layers/[01]/query").
        pooler: whether the pooler is trained too.

    Raises:
        BadInput: a target that matches nothing (when the method is traced).

    Source:
        Hu et al. 2022, "LoRA" (arXiv 2106.09685), section 4.1, equation 3.
    """

    def start(w0: Params, key: Key[Array, ""]) -> Params:
        ports: Params = {}
        for name in tree.maps(w0, targets, "method.lora.targets"):
            inputs, outputs = w0[f"{name}/kernel"].shape
            ports[f"{name}/lora_a"] = drawn(key, f"{name}/lora_a", inputs, rank)
            ports[f"{name}/lora_b"] = jnp.zeros((rank, outputs), jnp.float32)
            ports[f"{name}/lora_scale"] = jnp.asarray(alpha / rank, jnp.float32)
        return {**w0, **ports}

    def own(params: Params, w0: Params, key) -> Params:
        def trained(name: str) -> bool:
            return name.endswith(("/lora_a", "/lora_b")) or tree.head(name) or (pooler and tree.layer(name) == "pooler")

        return {name: x for name, x in params.items() if trained(name)}

    return Method(start=start, own=own)


def drawn(key: Key[Array, ""], name: str, inputs: int, rank: int) -> Float[Array, "inputs rank"]:
    """The start of A: uniform between -1 / sqrt(inputs) and 1 / sqrt(inputs)."""
    bound = inputs**-0.5
    return jax.random.uniform(keys.named(key, name), (rank, inputs), jnp.float32, -bound, bound).T
