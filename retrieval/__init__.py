"""Documents in, cited passages out: reading, chunking, embedding, the store, scope and the prompt."""
