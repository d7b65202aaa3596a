"""Task files and their judgement: each kind on answers whose score can be counted by hand."""

import json
import math
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from benchmarks.adapter_eval.classification import macro_f1
from benchmarks.adapter_eval.figures import mean, share
from benchmarks.adapter_eval.match import token_f1
from benchmarks.adapter_eval.questions import TaskError, read_questions
from benchmarks.adapter_eval.sql import QueryFailed, is_ordered, run_query, statement
from benchmarks.adapter_eval.task import Answer, Scored, Task
from benchmarks.adapter_eval.tasks import load_task

ROOT = Path(__file__).parents[3]


def line(question: str, right: str | None = None, **more: Any) -> dict[str, Any]:
    said = [] if right is None else [{"role": "assistant", "content": right}]
    return {"messages": [{"role": "user", "content": question}, *said], **more}


def task_in(folder: Path, lines: list[dict[str, Any]], **keys: Any) -> Task:
    (folder / "data.jsonl").write_text("\n".join(map(json.dumps, lines)), encoding="utf-8")
    facts = {"name": "demo", "data": "data.jsonl", **keys}
    rules = facts.pop("rules", [])
    text = "".join(f"{key} = {json.dumps(value)}\n" for key, value in facts.items())
    text += "".join("[[rules]]\n" + "".join(f"{k} = {json.dumps(v)}\n" for k, v in rule.items()) for rule in rules)
    (folder / "task.toml").write_text(text, encoding="utf-8")
    return load_task(folder / "task.toml")


def judged(task: Task, *texts: str) -> Scored:
    return task.score(task.questions(), [Answer(text, 0.1) for text in texts])


def values(scored: Scored) -> dict[str, float]:
    return {figure.name: figure.value for figure in scored.figures}


def test_a_share_has_wilsons_interval_and_a_mean_a_bootstrap_one() -> None:
    found = share("hits", [True] * 45 + [False] * 5)
    assert (found.value, found.n) == (0.9, 50)
    assert (found.low, found.high) == (pytest.approx(0.7864, abs=1e-4), pytest.approx(0.9565, abs=1e-4))
    average = mean("seconds", [1.0] * 50 + [3.0] * 50, "s")
    assert average.value == 2.0
    # 1.96 standard errors of the mean: 1/10 each way.
    assert average.low == pytest.approx(1.8, abs=0.05)
    assert average.high == pytest.approx(2.2, abs=0.05)
    assert mean("same", [2.0] * 9, "s").low == mean("same", [2.0] * 9, "s").high == 2.0


def test_classification_is_constrained_to_its_labels_and_counts_confusions(tmp_path: Path) -> None:
    lines = [line("a", "red"), line("b", "red"), line("c", "blue"), line("d", "green")]
    task = task_in(tmp_path, lines, kind="classification")
    asked = task.asks(task.questions())[0].body
    assert asked["structured_outputs"] == {"choice": ["blue", "green", "red"]}
    assert asked["messages"] == [{"role": "user", "content": "a"}]
    scored = judged(task, "red", " blue\n", "blue", "purple")
    # F1: red 2/3, blue 2/3, green 0.
    assert values(scored) == {"accuracy": 0.5, "macro_f1": pytest.approx(4 / 9)}
    assert scored.detail["confusion"] == {"blue": {"blue": 1}, "green": {"purple": 1}, "red": {"blue": 1, "red": 1}}
    assert "1 answers are no label" in scored.notes


def test_classification_without_constraint_and_with_strange_labels(tmp_path: Path) -> None:
    free = task_in(tmp_path, [line("a", "red")], kind="classification", constrained=False)
    assert "structured_outputs" not in free.asks(free.questions())[0].body
    listed = task_in(tmp_path, [line("a", "red")], kind="classification", labels=["blue"])
    with pytest.raises(TaskError, match="red"):
        listed.questions()


def test_macro_f1_of_perfect_answers_is_one_with_certainty() -> None:
    found = macro_f1(["a", "b", "c"] * 5, ["a", "b", "c"] * 5)
    assert (found.value, found.low, found.high) == (1, 1, 1)


def test_rules_of_each_kind(tmp_path: Path) -> None:
    rules = [
        {"name": "layout", "how": "whole", "pattern": "Yes: .+"},
        {"name": "number", "how": "has", "pattern": "[0-9]"},
        {"name": "apology", "how": "lacks", "pattern": "(?i)sorry"},
    ]
    task = task_in(tmp_path, [line("q")] * 4, kind="rules", rules=rules)
    scored = judged(task, "Yes: 7\n", "Yes: seven", "No: 7", "Yes: 7, sorry")
    assert values(scored) == {"passed": 0.25, "layout": 0.75, "number": 0.75, "apology": 0.75}
    assert scored.detail["failing"] == ["Yes: seven", "No: 7", "Yes: 7, sorry"]
    with pytest.raises(TaskError, match="not a regular expression"):
        task_in(tmp_path, [line("q")], kind="rules", rules=[{"name": "x", "how": "has", "pattern": "("}])


def test_a_schema_is_asked_for_freely_and_guided(tmp_path: Path) -> None:
    schema = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    (tmp_path / "schema.json").write_text(json.dumps(schema))
    task = task_in(tmp_path, [line("q"), line("r")], kind="schema", schema="schema.json")
    free, _, guided, _ = task.asks(task.questions())
    assert "response_format" not in free.body
    assert guided.body["response_format"]["json_schema"]["schema"] == schema
    scored = judged(task, '{"n": 1}', "[" * 5000, '{"n": 2}', '{"n": ')
    assert values(scored) == {"valid": 0.5, "valid_guided": 0.5}
    (tmp_path / "schema.json").write_text('{"type": "thing"}')
    with pytest.raises(TaskError, match="not a JSON schema"):
        task.asks(task.questions())


def test_exact_match_and_token_f1_take_the_nearest_answer(tmp_path: Path) -> None:
    task = task_in(tmp_path, [line("q", answers=["the red car", "an automobile"]), line("r", "x")], kind="match")
    # Without the article two words of four and two: 2 * 2 / (2 + 3).
    assert values(judged(task, "A RED, fast car!", "x.")) == {"exact": 0.5, "token_f1": pytest.approx((0.8 + 1) / 2)}
    assert token_f1("", "") == 1
    with pytest.raises(TaskError, match="1 questions have no right answer"):
        task_in(tmp_path, [line("q")], kind="match").questions()


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    path = tmp_path / "shop.db"
    with sqlite3.connect(path) as database:
        database.execute("CREATE TABLE sale (item TEXT, euros REAL)")
        database.executemany("INSERT INTO sale VALUES (?, ?)", [("pen", 1.5), ("ink", 0.1 + 0.2), ("pen", 2.0)])
    database.close()
    return path


def test_sql_is_judged_by_its_rows(tmp_path: Path, shop: Path) -> None:
    ordered = "SELECT item FROM sale ORDER BY euros"
    lines = [
        line("items?", "SELECT DISTINCT item FROM sale", database="shop"),
        line("cheapest first?", ordered, database="shop"),
        line("sum?", "SELECT 0.3 FROM sale LIMIT 1", database="shop"),
        line("broken here", "SELECT now()::date", database="shop"),
        line("which?", "SELECT 1 WHERE 0", answers=["SELECT 7"], database="shop"),
    ]
    task = task_in(tmp_path, lines, kind="sql", databases=".")
    fenced = "Here:\n```sql\nSELECT item FROM sale GROUP BY item ORDER BY item DESC;\n```"
    sum_ = "SELECT euros FROM sale WHERE item = 'ink'"
    scored = judged(task, fenced, f"{ordered} DESC", sum_, "SELECT 1", "SELECT 7")
    assert values(scored) == {"execution": 0.75, "runs": 1}
    assert scored.detail == {"left_out": 1}
    assert values(judged(task, "no SQL at all", "SELECT nothing", "", "", ""))["runs"] == 0
    with pytest.raises(TaskError, match="no database 'bank'"):
        task_in(tmp_path, [line("q", "SELECT 1", database="bank")], kind="sql", databases=".").questions()
    assert shop.is_file()


@pytest.mark.parametrize(
    "query",
    [
        "DELETE FROM sale",
        "ATTACH DATABASE 'other.db' AS other",
        "PRAGMA writable_schema = 1",
        "SELECT load_extension('x')",
        "SELECT 1; DROP TABLE sale",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT count(*) FROM n",
        "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n) SELECT x FROM n",
        "SELECT zeroblob(900000000)",
        "",
        "SELECT '\ud800'",
    ],
)
def test_a_query_can_only_read_and_not_for_long(shop: Path, query: str, tmp_path: Path) -> None:
    before = shop.read_bytes()
    with pytest.raises(QueryFailed):
        run_query(shop, query, 0.5)
    assert shop.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["shop.db"]


def test_what_is_ordered_and_what_is_a_statement() -> None:
    assert is_ordered("SELECT a FROM t ORDER BY a LIMIT 3")
    assert not is_ordered("SELECT a FROM (SELECT a FROM t ORDER BY a)")
    assert statement("```SQL\nSELECT 1\n``` or ```sql\nSELECT 2```") == "SELECT 1"


def test_forgetting_is_what_the_base_knew_and_the_adapter_does_not(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("First\ntext.\n\n\nSecond text.\n")
    lines = [line("capital of Italy?", answers=["Rome"]), line("2 + 2?", answers=["4", "four"])]
    task = task_in(tmp_path, lines, kind="forgetting", texts="texts.txt")
    questions = task.questions()
    asks = task.asks(questions)
    assert [ask.path for ask in asks] == ["/chat/completions"] * 2 + ["/completions"] * 2
    assert (asks[2].body["prompt"], asks[2].body["prompt_logprobs"]) == ("First\ntext.", 0)

    def answers(first: str, second: str, nats: float) -> list[Answer]:
        texts = [Answer("", 0.1, logprob=-nats * tokens, scored=tokens) for tokens in (10, 30)]
        return [Answer(first, 0.1), Answer(second, 0.1), *texts]

    mine, base = answers("Chrome!", "It is 4.", math.log(6)), answers("It is ROME.", "5", math.log(3))
    assert values(task.score(questions, mine)) == {"answered": 0.5, "perplexity": pytest.approx(6)}
    # One lost, one gained.
    lost, ratio = task.compare(questions, mine, base)
    assert (lost.name, lost.value, ratio.name, ratio.value) == ("forgetting", 0, "perplexity_ratio", pytest.approx(2))
    refused = [*mine[:2], Answer("", 0.1, error="HTTP 400"), mine[3]]
    with pytest.raises(TaskError, match="1 texts could not be scored"):
        task.score(questions, refused)


def test_every_bad_line_is_named(tmp_path: Path) -> None:
    path = tmp_path / "data.jsonl"
    rows = [json.dumps(line("fine")), "{", json.dumps({"messages": []}), json.dumps({**line("q"), "extra": 1})]
    rows += ["", json.dumps({"messages": [{"role": "system", "content": "x"}]})]
    path.write_text("\n".join(rows))
    with pytest.raises(TaskError) as caught:
        read_questions(path)
    assert [f"line {number}:" in str(caught.value) for number in (1, 2, 3, 4, 6)] == [False, True, True, True, True]


def test_a_system_prompt_is_put_where_there_is_none(tmp_path: Path) -> None:
    task = task_in(tmp_path, [line("q", "a")], kind="match", system="Be brief.")
    (question,) = task.questions()
    assert [each["role"] for each in question.messages] == ["system", "user"]
    assert question.answers == ("a",)


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ({"kind": "guess"}, "kind must be one of classification"),
        ({"kind": "match", "max_token": 3}, "max_token: unknown key; did you mean max_tokens?"),
        ({"kind": "sql"}, "databases"),
        ({"kind": "match", "name": "Has Spaces"}, "name"),
    ],
)
def test_a_wrong_task_file_says_what_to_correct(tmp_path: Path, keys: dict[str, Any], says: str) -> None:
    with pytest.raises(TaskError, match=says.replace("?", r"\?")):
        task_in(tmp_path, [line("q")], **keys)


@pytest.mark.parametrize("name", ["support/style.toml", "general/forgetting.toml", "router/intents.toml"])
def test_our_own_tasks_are_whole(name: str) -> None:
    task = load_task(ROOT / "examples" / name)
    questions = task.questions()
    assert len(questions) >= 50
    assert len(task.asks(questions)) >= len(questions)
