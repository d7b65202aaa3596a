"""The ledger's tables, and the steps that bring an older ledger up to date. Rows are only ever added to.

`runs`: one process's life and its bill so far. `periods`: that bill in pieces of seconds to a minute, each with what
was settled in it. `requests`: one row each, in the period in which it was settled. `routes`: what a router took.
`scaling`: how many engines and gateways there were from then on.
"""

VERSION = 4

_FIRST = """
CREATE TABLE IF NOT EXISTS runs (
    run_id TEXT PRIMARY KEY, started_at REAL NOT NULL, seen_at REAL NOT NULL, price_id TEXT NOT NULL,
    usd_per_hour TEXT NOT NULL, price_source TEXT NOT NULL, price_as_of TEXT NOT NULL, simulated INTEGER NOT NULL,
    billed_s REAL NOT NULL, busy_s REAL NOT NULL, idle_s REAL NOT NULL, unallocated_idle_s REAL NOT NULL
);
CREATE TABLE IF NOT EXISTS requests (
    request_id TEXT NOT NULL, run_id TEXT NOT NULL, started_at REAL NOT NULL, endpoint TEXT NOT NULL,
    model TEXT NOT NULL, engine_model TEXT NOT NULL, adapter TEXT, knowledge TEXT, tenant TEXT NOT NULL,
    key_id TEXT NOT NULL, stream INTEGER NOT NULL, outcome TEXT NOT NULL, status INTEGER NOT NULL, error_code TEXT,
    passages INTEGER NOT NULL, best_score REAL, prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL,
    retrieved_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, tokens_estimated INTEGER NOT NULL,
    ttft_s REAL, duration_s REAL NOT NULL, embed_s REAL, search_s REAL, busy_s REAL NOT NULL, idle_s REAL NOT NULL,
    usage_usd TEXT NOT NULL, allocation_usd TEXT NOT NULL, simulated INTEGER NOT NULL, rerank_s REAL
);
CREATE TABLE IF NOT EXISTS routes (
    request_id TEXT NOT NULL, router TEXT NOT NULL, label TEXT, confidence REAL, model TEXT NOT NULL,
    reason TEXT NOT NULL, prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL, busy_s REAL NOT NULL,
    idle_s REAL NOT NULL, usage_usd TEXT NOT NULL, allocation_usd TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS requests_started_at ON requests (started_at);
CREATE INDEX IF NOT EXISTS requests_request_id ON requests (request_id);
"""

# A ledger of version 1 has no periods: each of its runs becomes one, and its processes are gone.
_SECOND = """
ALTER TABLE runs ADD COLUMN ended_at REAL;
ALTER TABLE runs ADD COLUMN ending TEXT;
ALTER TABLE runs ADD COLUMN host_s REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN settled_busy_s REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN settled_host_s REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN settled_idle_s REAL NOT NULL DEFAULT 0;
ALTER TABLE runs ADD COLUMN running TEXT NOT NULL DEFAULT '[]';
UPDATE runs SET ended_at = seen_at, ending = 'old',
    settled_busy_s = (SELECT COALESCE(SUM(busy_s), 0) FROM requests WHERE requests.run_id = runs.run_id),
    settled_idle_s = (SELECT COALESCE(SUM(idle_s), 0) FROM requests WHERE requests.run_id = runs.run_id);
ALTER TABLE requests ADD COLUMN ended_at REAL;
ALTER TABLE requests ADD COLUMN period INTEGER NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN host_s REAL NOT NULL DEFAULT 0;
ALTER TABLE requests ADD COLUMN prefill_s REAL;
ALTER TABLE requests ADD COLUMN route_s REAL NOT NULL DEFAULT 0;
UPDATE requests SET ended_at = started_at + duration_s;
UPDATE requests SET route_s = COALESCE(
    (SELECT SUM(routes.busy_s) FROM routes WHERE routes.request_id = requests.request_id), 0);
CREATE TABLE periods (
    run_id TEXT NOT NULL, seq INTEGER NOT NULL, began_at REAL NOT NULL, ended_at REAL NOT NULL,
    billed_s REAL NOT NULL, busy_s REAL NOT NULL, host_s REAL NOT NULL, idle_s REAL NOT NULL,
    settled_busy_s REAL NOT NULL, settled_host_s REAL NOT NULL, settled_idle_s REAL NOT NULL, pool_s REAL NOT NULL,
    queries INTEGER NOT NULL, answered INTEGER NOT NULL, abstained INTEGER NOT NULL, searched INTEGER NOT NULL,
    prompt_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    PRIMARY KEY (run_id, seq)
);
INSERT INTO periods
    SELECT runs.run_id, 0, runs.started_at, runs.seen_at, runs.billed_s, runs.busy_s, 0, runs.idle_s,
        COALESCE(SUM(busy), 0), 0, COALESCE(SUM(idle), 0), runs.unallocated_idle_s,
        COALESCE(SUM(query), 0), COALESCE(SUM(query * answered), 0), COALESCE(SUM(query * abstained), 0),
        COALESCE(SUM(query * searched), 0), COALESCE(SUM(query * prompt), 0), COALESCE(SUM(query * cached), 0),
        COALESCE(SUM(query * completion), 0)
    FROM runs LEFT JOIN (
        SELECT run_id, busy_s AS busy, idle_s AS idle, prompt_tokens AS prompt, cached_tokens AS cached,
            completion_tokens AS completion, CASE WHEN endpoint = 'embeddings' THEN 0 ELSE 1 END AS query,
            CASE WHEN outcome = 'complete' THEN 1 ELSE 0 END AS answered,
            CASE WHEN outcome = 'abstained' THEN 1 ELSE 0 END AS abstained,
            CASE WHEN knowledge IS NULL THEN 0 ELSE 1 END AS searched
        FROM requests
    ) AS each_request ON each_request.run_id = runs.run_id
    GROUP BY runs.run_id, runs.started_at, runs.seen_at, runs.billed_s, runs.busy_s, runs.idle_s,
        runs.unallocated_idle_s;
CREATE INDEX periods_ended_at ON periods (ended_at);
CREATE INDEX requests_period ON requests (run_id, period);
CREATE INDEX requests_ended_at ON requests (ended_at);
"""

_THIRD = "ALTER TABLE requests ADD COLUMN prefill_apportioned INTEGER NOT NULL DEFAULT 0;"

_FOURTH = """
CREATE TABLE scaling (
    at REAL NOT NULL, gateway TEXT NOT NULL, engines INTEGER NOT NULL, gateways INTEGER NOT NULL,
    accelerators REAL NOT NULL
);
"""

# Steps by the version that they lead to.
_STEPS = {1: _FIRST, 2: _SECOND, 3: _THIRD, 4: _FOURTH}


def statements(version: int) -> list[str]:
    """What makes a ledger of `version` (0: none yet) one of VERSION, in order."""
    script = "".join(_STEPS[step] for step in range(version + 1, VERSION + 1))
    return [statement.strip() for statement in script.split(";") if statement.strip()]


def newer(place: str, version: int) -> str:
    """Why a ledger that a later Breakeven wrote is left alone."""
    return (
        f"the ledger in {place} was written by a newer Breakeven (version {version} of its tables, this one knows "
        f"{VERSION}). Start that version, or point BREAKEVEN_HOME or database_url elsewhere"
    )
