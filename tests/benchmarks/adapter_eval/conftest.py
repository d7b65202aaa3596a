"""Adapters made on the spot, as the registry's own tests make them."""

from tests.adapters.conftest import make_adapter

__all__ = ["make_adapter"]
