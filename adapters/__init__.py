"""Adapters: a data set becomes a LoRA adapter, and an adapter becomes an immutable, named version.

Only `adapters.training` needs torch; everything the gateway imports from here is light.
"""
