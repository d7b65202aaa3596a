"""`breakeven claims`: the documents' claims and what became of them."""

from datetime import date
from typing import Annotated, get_args

import typer

from benchmarks.claims.claim import Book, Outcome
from benchmarks.claims.document import as_document
from benchmarks.claims.judging import Verdict, verdicts
from benchmarks.claims.reading import read_book
from benchmarks.claims.scoreboard import print_contradictions, print_explained, print_scoreboard
from benchmarks.errors import ClaimError
from breakeven.console import output, print_json


def claims(
    document: Annotated[str | None, typer.Option(help="Only the claims of a document: A to E.")] = None,
    verdict: Annotated[str | None, typer.Option(help="Only these: holds, fails, holds_only_if ...")] = None,
    explain: Annotated[str | None, typer.Option(metavar="ID", help="Everything about one claim, such as D50.")] = None,
    contradictions: Annotated[bool, typer.Option("--contradictions", help="Where the documents disagree.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the verdicts as JSON.")] = False,
) -> None:
    """Judge what five documents claim about the cost of answers."""
    book = read_book()
    if contradictions:
        print_contradictions(book, verdicts(book), output)
        return
    found = _chosen(book, document, verdict, explain)
    if as_json:
        listed = [as_document(one, date.today()) for one in found]
        print_json(listed)
    elif explain is not None:
        print_explained(found[0], book, output, date.today())
    else:
        print_scoreboard(found, output)


def _chosen(book: Book, document: str | None, outcome: str | None, claim_id: str | None) -> list[Verdict]:
    if claim_id is not None and claim_id.upper() not in book.claims:
        raise ClaimError(f"there is no claim {claim_id}; they are A01 to E19, and `breakeven claims` lists them")
    if document is not None and document.upper() not in book.documents:
        raise ClaimError(f"there is no document {document}; they are {', '.join(book.documents)}")
    wanted = outcome and outcome.lower().replace(" ", "_").replace("-", "_")
    if wanted is not None and wanted not in get_args(Outcome):
        raise ClaimError(f"there is no verdict {outcome}; they are {', '.join(get_args(Outcome))}")
    return [
        one
        for one in verdicts(book).values()
        if (claim_id is None or one.claim.id == claim_id.upper())
        and (document is None or one.claim.document == document.upper())
        and (wanted is None or one.outcome == wanted)
    ]
