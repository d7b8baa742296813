"""What a torch loop trains: one encoder of transformers, or several of one shape stacked by `torch.func`.

Both have `config`, `params` by name, and the same methods. torch is imported where it is used: it is an extra.
"""

import warnings
from collections.abc import Sequence
from typing import Any


class Single:
    """One encoder, as it is or compiled."""

    def __init__(self, model: Any, compiled: bool, dynamic: bool):
        """Of a model of transformers, on its device; `dynamic` where the widths of batches differ."""
        import torch  # pyright: ignore[reportMissingImports] (an extra)

        self.config, self.params, self._plain = model.config, dict(model.named_parameters()), model.train()
        self._model = torch.compile(model, dynamic=dynamic) if compiled else model
        self._clip = torch.nn.utils.clip_grad_norm_

    def laid(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch as the model wants it."""
        return batch

    def forward(self, batch: dict[str, Any]) -> Any:
        """The loss of a batch; `backward` makes gradients of it."""
        return self._model(**batch).loss

    def backward(self, loss: Any) -> None:
        """Leaves the gradients at the parameters."""
        loss.backward()

    def clip(self, most: float, whole: bool) -> None:
        """Bounds the norm of all gradients together, or of each."""
        params = list(self.params.values())
        for some in [params] if whole else [[p] for p in params]:
            self._clip(some, most, foreach=True)

    def evaluating(self, on: bool) -> None:
        """Dropout is off while it evaluates."""
        self._plain.train(not on)

    def logits(self, batch: dict[str, Any]) -> Any:
        """Of a batch, [B, C]."""
        return self._model(**{**batch, "labels": None}).logits


class Stacked:
    """Several encoders as one: each parameter, batch and loss has a leading axis of replicas, R.

    The model of one replica is mapped over it (`torch.func.stack_module_state`, `functional_call`, `vmap`). Each draws
    its own dropout.
    """

    def __init__(self, models: Sequence[Any]):
        """Of models of one config, on their device."""
        import torch  # pyright: ignore[reportMissingImports] (an extra)

        self._torch, self.config = torch, models[0].config
        params, self._buffers = torch.func.stack_module_state(list(models))
        # Detached: as leaves of autograd they would have it keep a graph of the gradients too, gigabytes of it.
        self.params = {name: param.detach() for name, param in params.items()}
        self._plain = models[0].train().to("meta")  # whose own weights nobody reads
        self._mapped = torch.vmap(torch.func.grad_and_value(self._loss), randomness="different")

    def laid(self, batch: dict[str, Any]) -> dict[str, Any]:
        """A batch with its mask as what attention adds: to make it, transformers looks into what vmap cannot show."""
        none = self._torch.finfo(self._torch.bfloat16).min  # float32's would be infinite in bfloat16
        mask = batch["attention_mask"][..., None, None, :]
        added = self._torch.zeros(mask.shape, device=mask.device).masked_fill(mask == 0, none)
        return {**batch, "attention_mask": added}

    def forward(self, batch: dict[str, Any]) -> Any:
        """The losses of the replicas' batches, [R], and their gradients at once."""
        with warnings.catch_warnings():
            # Where vmap knows no rule for fused attention, it calls it for each replica. The search finds out the cost.
            warnings.filterwarnings("ignore", "There is a performance drop")
            grads, losses = self._mapped(self.params, self._buffers, batch)
        for name, grad in grads.items():
            self.params[name].grad = grad
        return losses

    def backward(self, loss: Any) -> None:
        """Nothing: `forward` has done it."""

    def clip(self, most: float, whole: bool) -> None:
        """Bounds the norm of all gradients of each replica together, or of each."""
        grads = [p.grad for p in self.params.values()]
        norms = self._torch.stack([grad.flatten(1).norm(dim=1) for grad in grads])
        if whole:
            norms = norms.norm(dim=0, keepdim=True).expand_as(norms)
        for grad, scale in zip(grads, (most / (norms + 1e-6)).clamp(max=1), strict=True):
            grad.mul_(scale.view(-1, *[1] * (grad.dim() - 1)))

    def evaluating(self, on: bool) -> None:
        """Dropout is off while it evaluates."""
        self._plain.train(not on)

    def logits(self, batch: dict[str, Any]) -> Any:
        """Of a batch that all replicas read, [R, B, C]."""
        given = {**batch, "labels": None}
        call = self._torch.func.functional_call

        def of_one(params: dict[str, Any], buffers: dict[str, Any]) -> Any:
            return call(self._plain, (params, buffers), (), given).logits

        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "There is a performance drop")
            return self._torch.vmap(of_one)(self.params, self._buffers)

    def _loss(self, params: dict[str, Any], buffers: dict[str, Any], batch: dict[str, Any]) -> Any:
        return self._torch.func.functional_call(self._plain, (params, buffers), (), batch).loss
