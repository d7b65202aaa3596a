"""What an adapter can do, measured over the endpoint that users ask: `breakeven eval adapter`.

A task is a TOML file beside its data. One small module per kind of task says what is asked and how answers score.
"""
