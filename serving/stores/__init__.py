"""OpenAI's files and vector stores over our knowledge bases: catalogue and bytes in the home or in PostgreSQL.

A vector store is a knowledge base of the caller's tenant under an id. What was ingested by other means appears here
too, and what is attached here is answered from like any other document.
"""
