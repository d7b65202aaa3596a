"""The decision frameworks of the five documents as one tool: what to build, its cost, what would change that.

The decision is a procedure (decision.py, docs/advise.md); the documents' rules are data that it is compared with.
"""
