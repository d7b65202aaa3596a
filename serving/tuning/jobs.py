"""The jobs of all tenants, as rows: what survives a restart of the gateway."""

import secrets

from serving.database.protocol import Row
from serving.errors import NotFound
from serving.stores.database import Database
from serving.tuning.job import ENDED, Job, State, Wanted


class Jobs:
    """Every call names the tenant, and another one's id is as unknown as none."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def create(self, tenant: str, wanted: Wanted, now: float) -> Job:
        """Queued."""
        job = Job(f"ftjob-{secrets.token_hex(12)}", tenant, wanted, "queued", now, None, None, None)
        await self._database.write(
            (
                "INSERT INTO tuning_jobs (id, tenant, wanted, state, created_at) VALUES (?,?,?,?,?)",
                (job.id, tenant, wanted.dump(), job.state, now),
            )
        )
        return job

    async def find(self, tenant: str, id: str) -> Job:
        """Raises NotFound."""
        row = await self._database.row("SELECT * FROM tuning_jobs WHERE id = ? AND tenant = ?", id, tenant)
        if row is None:
            raise NotFound(
                f"there is no fine-tuning job {id[:100]!r}; GET /v1/fine_tuning/jobs lists yours",
                param="fine_tuning_job_id",
            )
        return _job(row)

    async def of_tenant(self, tenant: str) -> list[Job]:
        """Oldest first."""
        sql = "SELECT * FROM tuning_jobs WHERE tenant = ? ORDER BY created_at, id"
        return [_job(row) for row in await self._database.rows(sql, tenant)]

    @property
    def shared(self) -> bool:
        """Whether other gateways work on them, too."""
        return self._database.shared

    async def take_next(self) -> Job | None:
        """The job to work on: one that was running when a gateway ended, else the one that has waited longest. Other
        gateways leave it to us until `release`."""
        rows = await self._database.rows(
            "SELECT * FROM tuning_jobs WHERE state IN ('running', 'queued') ORDER BY state DESC, created_at, id"
        )
        for job in map(_job, rows):
            if await self._database.take(job.id):
                now = None
                try:
                    now = await self.find(job.tenant, job.id)
                finally:
                    ours = now is not None and now.state in ("running", "queued")
                    if not ours:  # another gateway was quicker, or the database is gone
                        await self.release(job)
                if ours:
                    return now
        return None

    async def release(self, job: Job) -> None:
        """Others may have it now."""
        await self._database.release(job.id)

    async def move(self, job: Job, state: State, *, among: tuple[State, ...]) -> bool:
        """To `state` if it is in one of `among`; False if somebody moved it meanwhile."""
        marks = ",".join("?" * len(among))
        sql = f"UPDATE tuning_jobs SET state = ? WHERE id = ? AND state IN ({marks})"  # noqa: S608  # question marks
        return bool(await self._database.write((sql, (state, job.id, *among))))

    async def died(self, job: Job) -> int:
        """Its trainer has died; returns how often that was."""
        await self._database.write(("UPDATE tuning_jobs SET deaths = deaths + 1 WHERE id = ?", (job.id,)))
        row = await self._database.row("SELECT deaths FROM tuning_jobs WHERE id = ?", job.id)
        return 0 if row is None else int(row["deaths"])

    async def end(self, job: Job, state: State, now: float, *, version: str | None = None, error: str = "") -> None:
        """It has ended, well or not."""
        sql = "UPDATE tuning_jobs SET state = ?, finished_at = ?, version = ?, error = ? WHERE id = ?"
        await self._database.write((sql, (state, now, version, error or None, job.id)))

    async def cancel_idle(self, job: Job, now: float) -> bool:
        """Cancelled, if it is queued or paused and so has no trainer."""
        sql = "UPDATE tuning_jobs SET state = ?, finished_at = ? WHERE id = ? AND state IN (?, ?)"
        return bool(await self._database.write((sql, ("cancelled", now, job.id, "queued", "paused"))))

    async def ended(self) -> set[str]:
        """Ids of all that have ended, of all tenants."""
        marks = ",".join("?" * len(ENDED))
        sql = f"SELECT id FROM tuning_jobs WHERE state IN ({marks})"  # noqa: S608  # question marks
        return {row["id"] for row in await self._database.rows(sql, *sorted(ENDED))}


def _job(row: Row) -> Job:
    return Job(
        id=row["id"],
        tenant=row["tenant"],
        wanted=Wanted.load(row["wanted"]),
        state=row["state"],
        created_at=row["created_at"],
        finished_at=row["finished_at"],
        version=row["version"],
        error=row["error"],
    )
