"""One step of training after another: AdamW, clipped gradients, a warm-up and a cosine."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from fusion.training.recipe import Recipe

MAX_GRADIENT = 1.0


class Descent:
    """Moves the weights of a network as a recipe says; whatever is trained, it is trained alike."""

    def __init__(self, network: nn.Module, recipe: Recipe) -> None:
        self._network, self._recipe = network, recipe
        self.optimiser = torch.optim.AdamW(
            network.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay
        )

    def step(self, number: int, loss: Tensor) -> None:
        """Move the weights against the gradient of ``loss``, in step ``number`` of the recipe's."""
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), MAX_GRADIENT)
        for group in self.optimiser.param_groups:
            group["lr"] = self._recipe.learning_rate * rate(number, self._recipe)
        self.optimiser.step()


def rate(step: int, recipe: Recipe) -> float:
    """Return the learning rate's factor: linear warm-up, then a cosine to a twentieth."""
    if step < recipe.warmup_steps:
        return (step + 1) / recipe.warmup_steps
    done = (step - recipe.warmup_steps) / max(1, recipe.steps - recipe.warmup_steps)
    return 0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * done))
