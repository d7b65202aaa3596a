"""Rows become tables that can be cut between any two of them."""

from retrieval.tables import markdown


def test_a_short_table() -> None:
    rows = [["", ""], ["item", "price"], ["rope", " 12\n.5 "], ["a|b", "c\\d", ""], ["knot"]]
    assert markdown(rows) == "| item | price |\n|---|---|\n| rope | 12 .5 |\n| a\\|b | c\\\\d |\n| knot |  |"


def test_nothing_and_only_a_header() -> None:
    assert markdown([]) == ""
    assert markdown([[], [""]]) == ""
    assert markdown([["item", "price"]]) == "| item | price |\n|---|---|"


def test_every_part_of_a_long_table_names_the_columns() -> None:
    parts = markdown([["item", "price"], *([f"rope {n}", str(n)] for n in range(500))]).split("\n\n")
    assert all(part.startswith("| item | price |\n|---|---|\n| rope ") and len(part) <= 500 for part in parts)
    assert sum(part.count("rope") for part in parts) == 500


def test_a_row_too_wide_for_a_table_is_told_by_column() -> None:
    text = markdown([["item", "", "story"], ["rope", "7", "long " * 120, "more"], ["knot", "", "short"]])
    wide, narrow = text.split("\n\n")
    assert wide.startswith("item: rope\n7\nstory: long long") and wide.endswith("\nmore")
    assert narrow.endswith("| knot |  | short |")
