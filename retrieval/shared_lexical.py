"""The lexical index in PostgreSQL: its full-text search finds the passages, BM25 computed in SQL ranks them.

PostgreSQL's own ranking knows neither how rare a word is nor how long a passage is: on SciFact its nDCG@10 is .590
where BM25's is .684 (words alone, passages of 900 characters; tantivy's .677). Rarity and lengths are kept with the
index. How often a word occurs in a passage is read from `ts_rank` of that word alone, which depends on nothing else.

Reading a passage's words costs microseconds for each word of the question, so when many passages share words with it,
those are scored that have its rarer words: on 114,000 passages as good as scoring all, in a tenth of the time.
"""

import re
import unicodedata
from collections.abc import Collection, Mapping
from itertools import accumulate

from retrieval.lexical import LONGEST_WORD, MOST_WORDS
from retrieval.postgres import Postgres, Session

_ENOUGH = 3000  # passages scored, unless the question's rarest word alone is in more
_COUNTABLE = 255  # occurrences of one word; PostgreSQL keeps no more
# ts_rank of one word that occurs n times: the sum of 1 / i^2 for i up to n, divided by pi^2 / 6.
_RANKS = [total / 1.64493406685 - 1e-6 for total in accumulate(1 / i**2 for i in range(1, _COUNTABLE + 1))]
_ADD = """
INSERT INTO passages SELECT %(base)s, %(version)s, id, coalesce(
    (SELECT sum(cardinality(positions)) FROM unnest(found) AS one), 0), found
FROM (
    SELECT id, to_tsvector('english', text) AS found FROM unnest(%(ids)s::text[], %(texts)s::text[]) AS one (id, text)
) AS t
ON CONFLICT (base, id) DO NOTHING RETURNING id
"""
# Before the statistics change: so that two writers neither count the same passages nor wait for each other's words.
_LOCK = "SELECT 1 FROM bases WHERE id = %s FOR NO KEY UPDATE"
_COUNT = (
    "UPDATE bases SET passages = bases.passages {sign} t.n, words = bases.words {sign} t.total FROM "
    "(SELECT base, count(*) AS n, sum(length) AS total FROM passages WHERE {those} AND base = %s GROUP BY base) AS t "
    "WHERE id = t.base"
)
_COUNT_WORDS = (
    "INSERT INTO terms AS known SELECT base, lexeme, count(*) FROM passages, unnest(words) "
    "WHERE {those} AND base = %s GROUP BY base, lexeme "
    "ON CONFLICT (base, term) DO UPDATE SET passages = known.passages {sign} excluded.passages"
)

# One word's share of BM25 (k1 1.2, b 0.75, as in tantivy): its rarity, and how often it occurs in so long a passage.
_PART = (
    "%(rarity{at})s::float8 * (SELECT n * 2.2 / (n + norm) FROM "
    "(SELECT width_bucket(ts_rank('{{1,1,1,1}}', words, %(word{at})s::tsquery), %(ranks)s::real[]) AS n) AS o{at})"
)
_SEARCH = (
    "SELECT id, {score} AS score FROM (SELECT passages.*, 1.2 * (0.25 + 0.75 * length / about.mean) AS norm "
    "FROM passages, (SELECT greatest(words, 1)::float8 / greatest(passages, 1) AS mean FROM bases WHERE id = %(base)s) "
    "AS about WHERE base = %(base)s AND words @@ %(any)s::tsquery {among}) AS found "
    "ORDER BY score DESC, id LIMIT %(limit)s"
)


class PostgresIndex:
    """See LexicalIndex. `base` is the knowledge base's id in the database. What is written is there at once."""

    behind = False

    def __init__(self, database: Postgres, base: int) -> None:
        self._database, self._base = database, base

    def add(self, passages: Mapping[str, str], version: str) -> None:
        """See LexicalIndex."""
        texts = [_words(text) for text in passages.values()]
        with self._database.transaction() as session:
            values = {"base": self._base, "version": version, "ids": list(passages), "texts": texts}
            added = [id for (id,) in session.rows(_ADD, values)]
            session.rows(_LOCK, (self._base,))
            for statement in (_COUNT, _COUNT_WORDS):
                session.rows(statement.format(sign="+", those="id = ANY(%s)"), (added, self._base))

    def remove(self, versions: Collection[str]) -> None:
        """See LexicalIndex."""
        gone = list(versions)
        with self._database.transaction() as session:
            session.rows(_LOCK, (self._base,))
            for statement in (_COUNT, _COUNT_WORDS):
                session.rows(statement.format(sign="-", those="version = ANY(%s)"), (gone, self._base))
            session.rows("DELETE FROM passages WHERE base = %s AND version = ANY(%s)", (self._base, gone))

    def sizes(self) -> dict[str, int]:
        """See LexicalIndex."""
        rows = self._database.rows(
            "SELECT version, count(*) FROM passages WHERE base = %s GROUP BY version", (self._base,)
        )
        return dict(rows)

    def search(self, question: str, limit: int, versions: Collection[str] | None = None) -> dict[str, float]:
        """See LexicalIndex."""
        if versions is None:
            return self._scored(question, limit, "", None)
        return self._scored(question, limit, "AND version = ANY(%(those)s)", list(versions))

    def score(self, question: str, ids: Collection[str]) -> dict[str, float]:
        """See LexicalIndex."""
        return self._scored(question, len(ids), "AND id = ANY(%(those)s)", list(ids))

    def commit(self) -> None:
        """See LexicalIndex."""

    def close(self) -> None:
        """See LexicalIndex."""

    def drop(self) -> None:
        """See LexicalIndex."""
        self.remove(list(self.sizes()))

    def _scored(self, question: str, limit: int, among: str, those: list[str] | None) -> dict[str, float]:
        if those == []:
            return {}
        with self._database.session() as session:
            weights = self._weights(session, question)
            if not weights:
                return {}
            seeds: list[str] = []
            most = 0
            for word, (count, _) in sorted(weights.items(), key=lambda item: item[1]):
                if seeds and most + count > _ENOUGH and those is None:
                    break
                seeds.append(word)
                most += count
            values: dict[str, object] = {"base": self._base, "limit": limit, "those": those, "ranks": _RANKS}
            values["any"] = " | ".join(map(_quoted, seeds))
            parts = []
            for at, (word, (_, rarity)) in enumerate(weights.items()):
                values |= {f"word{at}": _quoted(word), f"rarity{at}": rarity}
                parts.append(_PART.format(at=at))
            rows = session.rows(_SEARCH.format(score=" + ".join(parts), among=among), values)
            return {id: float(score) for id, score in rows}

    def _weights(self, session: Session, question: str) -> dict[str, tuple[int, float]]:
        """word -> (passages that have it, the weight of its rarity), of those that any has."""
        words = list(dict.fromkeys(_words(question).split()))[-MOST_WORDS:]
        rows = session.rows(
            "SELECT term, known.passages, ln(1 + (b.passages - known.passages + 0.5) / (known.passages + 0.5)) "
            "FROM terms AS known JOIN bases AS b ON b.id = base WHERE base = %s AND known.passages > 0 "
            "AND term IN (SELECT lexeme FROM unnest(to_tsvector('english', %s)))",
            (self._base, " ".join(words)),
        )
        return {term: (int(count), float(rarity)) for term, count, rarity in rows}


def _words(text: str) -> str:
    """Cut as the embedded index cuts them: PostgreSQL alone would take 'days.Carry' for the name of a host."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return " ".join(word for word in re.findall(r"[^\W_]+", plain) if len(word) <= LONGEST_WORD)


def _quoted(word: str) -> str:
    return "'" + word.replace("\\", "\\\\").replace("'", "''") + "'"
