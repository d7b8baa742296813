"""Every method with every family of models: its steps can be traced, and what it trains is what the model reads."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import toys
from test_deberta import V3
from test_lstm import SETTINGS

from jaxft import members, methods, tree
from jaxft.data import batch
from jaxft.engine import replica
from jaxft.engine.recipe import Shared
from jaxft.errors import BadInput

BART = {
    "model_type": "bart",
    "vocab_size": 30,
    "d_model": 24,
    "encoder_layers": 1,
    "decoder_layers": 2,
    "encoder_attention_heads": 3,
    "decoder_attention_heads": 3,
    "encoder_ffn_dim": 40,
    "decoder_ffn_dim": 40,
    "max_position_embeddings": 20,
    "activation_function": "gelu",
    "scale_embedding": True,
    "init_std": 0.3,
    "pad_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 2,
    "is_encoder_decoder": True,
}
FAMILIES = {
    "bart": BART,
    "electra": toys.ELECTRA,
    "deberta": V3 | {"vocab_size": 30},
    "lstm": SETTINGS | {"vocab_size": 30},
}
ASKED = {
    "reinit": "reinit(layers=1)",
    "top_layers": "top_layers(layers=1)",
    "lnsr": "lnsr(layer=0)",
    "lora": "lora(targets='query,value')",
}
LSTM = {"lora": "lora(targets='forward,backward_state')", "sift": "sift(targets='forward')"}
REFUSED = {("lstm", "adapter"): "the model has none"}


@pytest.fixture(scope="module", params=FAMILIES)
def family(request):
    settings = FAMILIES[request.param]
    return request.param, settings, *toys.encoder(settings, 3)


def made(family, name: str):
    kind, _, model, weights = family
    asked = (LSTM if kind == "lstm" else {}).get(name) or ASKED.get(name, name)
    structure, floats = methods.numbers(asked)
    recipe = toys.recipe(model, methods.load(structure), before=5)
    return recipe, toys.shared(pretrained=weights), toys.entry(lead=5, **floats)


@pytest.mark.parametrize("name", members.names())
def test_a_step_can_be_taken(family, name):
    recipe, shared, entry = made(family, name)

    def step(shared: Shared, entry):
        one = replica.init(recipe, shared, entry)
        w0 = replica.start(recipe, shared.pretrained, one.seeds, recipe.method(one.hp.__getitem__))
        return replica.train_step(recipe, shared, w0, one)[1]

    if reason := REFUSED.get((family[0], name)):
        with pytest.raises(BadInput, match=reason):
            jax.eval_shape(step, shared, entry)
    else:
        assert jax.eval_shape(step, shared, entry).shape == ()


@pytest.mark.parametrize("name", ["bitfit", "lora", "top_layers", "adapter"])
def test_what_is_trained_is_read(family, name):
    """Each parameter that a method trains, moved, moves a logit: none lies where the model does not look."""
    if (family[0], name) in REFUSED:
        pytest.skip(REFUSED[family[0], name])
    recipe, shared, entry = made(family, name)
    one = jax.jit(partial(replica.init, recipe))(shared, entry)
    w0 = replica.start(recipe, shared.pretrained, one.seeds, recipe.method(one.hp.__getitem__))
    # LoRA's second map begins at 0, and hides the first.
    w0 = {n: jnp.asarray(x) for n, x in w0.items()}
    moved = {n: x + 0.1 * (1 + jnp.arange(x.size).reshape(x.shape) % 3) for n, x in one.params.items()}
    rows = batch.pad(shared.train, jnp.arange(4), 8)
    grads = jax.jit(jax.grad(lambda own: (recipe.model.apply({**w0, **own}, rows).logits ** 3).sum()))(moved)
    still = {name for name, grad in grads.items() if not np.abs(grad).max() > 0}
    assert not {name for name in still if "key/bias" not in name}  # which softmax does not see
    assert tree.depth(w0) == (3 if family[0] == "bart" else 2)
