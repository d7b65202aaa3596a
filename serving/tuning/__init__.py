"""OpenAI's fine-tuning jobs over the trainer of the command line: a queue, one child process at a time, its journal."""
