"""What generates text: a Protocol with a vLLM client, a supervised vLLM child and a simulator behind it."""

from serving.engine.protocol import Engine, EngineFailed, EngineResponse, LoraModule

__all__ = ["Engine", "EngineFailed", "EngineResponse", "LoraModule"]
