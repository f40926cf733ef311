"""Fixtures of the methods' tests."""

from tests.methods.conftest import bank_run, recipe, resnet_run, resnet_run_float64

__all__ = ["bank_run", "recipe", "resnet_run", "resnet_run_float64"]
