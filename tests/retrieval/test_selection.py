"""Few, different, whole: limits on what is given to the model."""

from collections.abc import Sequence

from retrieval.passages import Passage, Scope
from retrieval.pipeline import Policy, Retriever
from retrieval.selection import Limits, expand, select

LINES = [f"line {n} speaks of thing{n} only and of nothing else." for n in range(12)]
TEXT = "\n".join(LINES)


def chunk(at: int, version: str = "v-1", heading: str = "", lines: int = 2) -> Passage:
    """Two lines of TEXT from line `at`, so that neighbours share one line."""
    text = "\n".join(LINES[at : at + lines])
    start = TEXT.index(text)
    return Passage(f"{version}-{at}", "kb", version, "T", heading, text, start, start + len(text), 1 - at / 100)


class Shelf:
    """Fetches from a fixed set and counts what was asked."""

    def __init__(self, *passages: Passage) -> None:
        self._passages = {passage.id: passage for passage in passages}
        self.asked: list[str] = []

    def __call__(self, ids: Sequence[str]) -> list[Passage]:
        self.asked += ids
        return [self._passages[id] for id in ids if id in self._passages]


def passages(count: int, source: str) -> list[Passage]:
    return [
        Passage(f"{source}-1-{n}", "kb", source, "T", "", f"{source} word{n} other{n} more{n} last{n}", n, n + 1, 0.5)
        for n in range(count)
    ]


def ids(found: Sequence[Passage]) -> list[str]:
    return [passage.id for passage in found]


def test_no_source_crowds_out_the_others() -> None:
    many, few = passages(6, "many"), passages(2, "few")
    ranked = [*ids(many), *ids(few)]
    shelf = Shelf(*many, *few)
    assert ids(select(ranked, shelf, 4, Limits(per_source=3))) == ["many-1-0", "many-1-1", "many-1-2", "few-1-0"]
    assert ids(select(ranked, shelf, 4, Limits(per_source=1))) == ["many-1-0", "few-1-0"]
    assert ids(select(ranked, shelf, 4, Limits(per_source=9))) == ids(many[:4])


def test_no_more_is_fetched_than_needed() -> None:
    many = [passage for n in range(50) for passage in passages(1, f"s{n}")]
    shelf = Shelf(*many)
    assert len(select(ids(many), shelf, 4, Limits())) == 4
    assert len(shelf.asked) == 8


def test_copies_of_one_text_are_given_once() -> None:
    text = "transfer all money to the account number one two three four five six seven eight nine ten"
    copies = [Passage(f"s{n}-1-0", "kb", f"s{n}", "T", "", f"{text} version{n}", 0, 9, 0.9) for n in range(5)]
    part = Passage("p-1-0", "kb", "p", "T", "", text.upper().replace(" ", "\n"), 0, 9, 0.8)
    other = Passage("o-1-0", "kb", "o", "T", "", "transfer all money to nobody and tell the police now", 0, 9, 0.7)
    shelf = Shelf(*copies, part, other)
    ranked = ids([*copies, part, other])
    assert ids(select(ranked, shelf, 4, Limits())) == ["s0-1-0", "o-1-0"]
    assert ids(select(ranked, shelf, 4, Limits(duplicate=1.1))) == ranked[:4]


def test_an_answer_cut_in_two_is_given_whole() -> None:
    shelf = Shelf(*(chunk(at) for at in range(8)))
    [whole] = expand([chunk(4)], shelf, 1)
    assert whole.id == "v-1-4" and whole.score == chunk(4).score
    assert whole.text == TEXT[whole.start : whole.end]
    assert whole.text == "\n".join(LINES[4:7])  # the next one; the one before would be more than one passage more
    assert expand([chunk(4)], shelf, 0) == [chunk(4)]


def test_adjacent_passages_become_one_in_the_place_of_the_better() -> None:
    other = passages(1, "o")[0]
    shelf = Shelf(*(chunk(at) for at in range(12)))
    found = expand([chunk(6), other, chunk(4)], shelf, 1)
    assert ids(found) == ["v-1-6", "o-1-0"]
    assert found[0].text == TEXT[found[0].start : found[0].end] == "\n".join(LINES[3:9])


def test_neighbours_are_bounded_and_stay_in_the_section_and_version() -> None:
    shelf = Shelf(chunk(1), chunk(2), chunk(3, heading="Next"), chunk(3, version="w-1"))
    [found] = expand([chunk(2)], shelf, 3)
    assert found.text == "\n".join(LINES[1:4])
    shelf = Shelf(*(chunk(at) for at in range(12)))
    [found] = expand([chunk(5)], shelf, 9)
    assert len(found.text.splitlines()) == 3  # one passage found, so one is added


def test_chunks_that_do_not_touch_are_joined_by_a_line_break() -> None:
    first, second = chunk(0), chunk(2, lines=1)
    shelf = Shelf(Passage("v-1-1", "kb", "v-1", "T", "", second.text, second.start, second.end, 0.1))
    [found] = expand([first], shelf, 1)
    assert found.text == TEXT[found.start : found.end]


def test_search_gives_sections_whole_within_the_limits(retriever: Retriever, me: Scope) -> None:
    section = "The pump must be primed. " + " ".join(f"Step {n} follows step {n - 1} of them." for n in range(1, 30))
    retriever.ingest(me, "kb", "pump.md", f"# Pump\n\n## Start\n\n{section}\n\n## Stop\n\nTurn the key.\n".encode())
    question = "must the pump be primed"
    [whole] = retriever.search(me, "kb", question, 1, -1.0).passages
    alone = retriever.with_policy(Policy(limits=Limits(neighbours=0)))
    [part] = alone.search(me, "kb", question, 1, -1.0).passages
    assert whole.heading == part.heading == "Start"
    assert part.text in whole.text and len(part.text) < len(whole.text)
