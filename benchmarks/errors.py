"""The errors of a benchmark that its user can mend: one line each, saying what to do next."""


class BenchmarkError(Exception):
    """Base; the command line prints the message and exits, without a traceback."""


class PriceError(BenchmarkError):
    """A price row is malformed, or nobody has a price for what was asked."""


class PlanError(BenchmarkError):
    """The load plan or its prompts make no sense."""


class EndpointError(BenchmarkError):
    """The endpoint cannot be driven at all (unreachable, key refused, unknown model)."""


class MismatchError(BenchmarkError):
    """A run was made and recorded, and is no evidence: the client and the servers counted different things."""


class ModelError(BenchmarkError):
    """An input of the economic model is missing, impossible, or cannot be identified from what was measured."""


class ClaimError(BenchmarkError):
    """A claim, or what judges it, is not written as it must be, or there is none of that name."""


class AdviceError(BenchmarkError):
    """What is asked of the adviser, or one of its rules, is not written as it must be."""


class ResultsError(BenchmarkError):
    """A results file is missing, damaged, or of another experiment than it is used for."""
