"""What generates text: a Protocol with a vLLM client, a supervised vLLM child and a simulator behind it."""

from serving.engine.protocol import AdapterRefused, Engine, EngineFailed, EngineResponse, LoraModule

__all__ = ["AdapterRefused", "Engine", "EngineFailed", "EngineResponse", "LoraModule"]
