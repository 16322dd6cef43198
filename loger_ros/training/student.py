"""The network in training: several chunks with memory between them, watched by the training aids."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from loger_ros.model import LoGeR
from loger_ros.model.layers import exact
from loger_ros.training.aids import FlowHead, attention_loss, match, observed
from loger_ros.training.batches import Batch
from loger_ros.training.losses import Report, objective
from loger_ros.training.recipe import Recipe, Stage
from loger_ros.types import Prediction


class Student(nn.Module):
    """``forward`` returns the loss, so that data-parallel wrappers see one whole step."""

    def __init__(self, model: LoGeR, recipe: Recipe) -> None:
        super().__init__()
        self.model = model
        self.flow = FlowHead(recipe.model.decoder.dim)
        self.recipe = recipe

    def forward(self, batch: Batch, stage: Stage, chunk_size: int) -> Report:
        """The last chunk has the remaining frames: the overlap and at least one more."""
        length = batch.images.shape[1]
        starts = range(0, max(1, length - stage.overlap), chunk_size - stage.overlap)
        features = self.model.encode(batch.images)
        memory = self.model.initial_memory()
        predictions: list[Prediction] = []
        parts: list[Batch] = []
        attention, flow = [], []
        for start in starts:
            part = batch.part(start, start + chunk_size)
            count = part.images.shape[1]
            with observed(self.model, self.recipe.aided_heads) as seen, _decoded(self.model) as decoded:
                prediction, memory = self.model.step(
                    features[:, start : start + chunk_size],
                    memory,
                    chunk_size,
                    stage.overlap,
                    update_memory=start + chunk_size < length,
                    fast_weights=stage.fast_weights,
                    sliding_window=stage.sliding_window,
                )
            predictions.append(prediction)
            parts.append(part)
            if count > 1 and (stage.attention_weight or stage.flow_weight):
                with exact(batch.images):
                    matches = match(part, self.recipe.model.patch_size)
                    attention.append(attention_loss(seen, matches, count))
                    specials = self.recipe.model.decoder.num_registers + 1
                    tokens = decoded[0].unflatten(0, (len(part.images), count))[:, :, specials:]
                    flow.append(self.flow.loss(tokens, matches))
        with exact(batch.images):
            report = objective(predictions, parts, stage, self.recipe.metric)
        loss, named = report.loss, dict(report.parts)
        for name, values, weight in (
            ("attention", attention, stage.attention_weight),
            ("flow", flow, stage.flow_weight),
        ):
            if values:
                mean = torch.stack(values).mean()
                loss = loss + weight * mean
                named[name] = mean.detach()
        return Report(loss, named)


class _decoded:
    """Records the input of the heads."""

    def __init__(self, model: LoGeR) -> None:
        self._module = model.camera_decoder

    def __enter__(self) -> list[Tensor]:
        kept: list[Tensor] = []
        self._hook = self._module.register_forward_pre_hook(lambda _, inputs: kept.append(inputs[0]))
        return kept

    def __exit__(self, *_: object) -> None:
        self._hook.remove()
