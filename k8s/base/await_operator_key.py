"""Holds the gateway's pod back until an operator key exists.

The gateway refuses to listen beyond loopback without keys, and a container that has ended cannot be entered to make
one. This one waits, so that an operator enters it and sees the key in his own terminal: it is in no log and in no file.
Where gateways share a database the key is looked for there, and one is enough for all.
"""

import signal
import sys
import time

from retrieval.errors import RetrievalError
from serving.auth import keys_of
from serving.errors import StoreUnavailable
from serving.sections import Settings
from serving.settings import load_settings

_POLL_S = 2.0
_REMIND_EVERY = 30
_COMMAND = (
    "kubectl -n breakeven exec deploy/gateway -c await-operator-key -- "
    "breakeven keys create --role operator --note first"
)


def main() -> None:
    """Return once an operator key is in force."""
    # A container's first process ignores SIGTERM unless it handles it, and would hold up the pod's end.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    settings, polls, said = load_settings(), 0, ""
    while (missing := _missing(settings)) is not None:
        if missing != said or polls % _REMIND_EVERY == 0:
            print(missing, flush=True)
        polls, said = polls + 1, missing
        time.sleep(_POLL_S)
    print("an operator key is in force", flush=True)


def _missing(settings: Settings) -> str | None:
    try:
        with keys_of(settings) as store:
            found = any(key.caller.role == "operator" and key.revoked_at is None for key in store.list())
    except (RetrievalError, StoreUnavailable) as error:  # the database may come later than we do
        return f"keys cannot be looked up yet: {error}"
    return None if found else f"no operator key yet. Create one: {_COMMAND}"


if __name__ == "__main__":
    main()
