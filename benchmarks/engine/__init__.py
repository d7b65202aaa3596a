"""Experiments on real engines: LoRA on CPUs, prefix caching, flags, the gateway beside the engine alone."""
