"""What five documents claim about fine-tuning, retrieval and self-hosting, and what becomes of each claim when tested.

A claim is data (data/*.yaml): a statement in our words and one or more tests, each a formula, inputs with units and an
expectation. Nobody types a verdict: `verdicts` computes it from the documents' own numbers, dated prices, assumptions
that say whose they are, and committed measurements. What cannot be computed says what is missing.
"""
