"""The errors that are the user's to mend: their text says how, and a traceback would only hide it."""

from adapters.errors import AdapterError
from benchmarks.errors import BenchmarkError
from retrieval.errors import RetrievalError
from serving.accounting.ledger.database import LedgerError
from serving.auth import KeyRefused
from serving.engine.protocol import EngineFailed
from serving.errors import StoreUnavailable
from serving.remote import RemoteError
from serving.settings import SettingsError

MISTAKES = (
    AdapterError,
    BenchmarkError,
    EngineFailed,
    KeyRefused,
    LedgerError,
    RemoteError,
    RetrievalError,
    SettingsError,
    StoreUnavailable,
)
