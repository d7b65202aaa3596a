"""The decision frameworks of the five documents as one tool: what to build, what it costs, what would change the answer.

The decision is a procedure (decision.py, docs/advise.md); the documents' rules are data that it is compared with.
"""
