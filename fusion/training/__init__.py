"""From observations to a trained model: recipes, windows, the loop."""

from fusion.training.loop import StepReport, Trained, split, train
from fusion.training.recipe import RECIPES, Recipe, recipe_named

__all__ = ["RECIPES", "Recipe", "StepReport", "Trained", "recipe_named", "split", "train"]
