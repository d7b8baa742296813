"""LoRA: low-rank maps beside frozen ones."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Key

from jaxft import keys, tree
from jaxft.types import Count, Method, Params, Positive


def lora(rank: Count = 8, alpha: Positive = 16.0, targets: str = "query,value", pooler: bool = False) -> Method:
    """A map of low rank beside each chosen linear map of the layers is trained instead of it.

    Hu et al. 2022, "LoRA: low-rank adaptation of large language models" (arXiv 2106.09685), equation 3:

        y = x W + (alpha / rank) (x A) B + b,   A [inputs, rank] from U(-1, 1) / sqrt(inputs),   B [rank, outputs] = 0

    W and b are frozen and never differentiated. A is drawn as in the paper's code (Kaiming's uniform with a = sqrt(5)),
    from the trial's init seed and its name; the columns of a larger rank begin with those of a smaller one.

    `targets` are names of maps with commas between them: query, key, value, attention_out, intermediate, output; or
    patterns of the shell, which match the whole name if they have a slash in them ("layers/[01]/query").

    Owns: A, B and the head; the pooler too if `pooler` is True. It is frozen otherwise, as in peft, whose `SEQ_CLS`
    trains what is called classifier; RoBERTa's head is that with its dense layer. Weight decay acts on A and B as on
    any kernel. Writing the weights folds s A B into W (`models.merged`), so that a checkpoint has Hugging Face's names.
    Off: at no setting. At the start the model is the pretrained one, whatever alpha, since B = 0.
    Hazards: a pooler that the checkpoint lacks stays random unless `pooler` is True. Rates of 1e-4 to 5e-4 are usual.
    A sweep of alpha at a fixed rank stays in one program; rank and targets shape it.

    Raises:
        BadInput: a pattern of `targets` that matches nothing, once the method is traced.
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


CLASHES = {"adapter": "each trains what it adds and the head alone, so that both together train the head"}
