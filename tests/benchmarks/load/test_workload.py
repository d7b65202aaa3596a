"""Prompts and arrivals: repeatable, and a bad file is named with its line."""

from itertools import islice, pairwise
from pathlib import Path

import pytest

from benchmarks.errors import PlanError
from benchmarks.load.arrivals import Open, starts
from benchmarks.load.plan import Target
from benchmarks.load.targets import targets, tenants
from benchmarks.load.text import Text
from benchmarks.load.trace import replay
from benchmarks.load.workload import questions, rag, shared_prefix, synthetic
from retrieval.model_folder import packaged_minilm


def test_questions_come_in_order_and_round_again(tmp_path: Path) -> None:
    path = tmp_path / "questions.jsonl"
    path.write_text('{"question": "a?"}\n\n{"prompt": "b?"}\n{"messages": [{"role": "system", "content": "c"}]}\n')
    workload = questions(path)
    assert [workload.prompt(index).messages[0]["content"] for index in range(4)] == ["a?", "b?", "c", "a?"]
    assert workload.prompt(2).messages[0]["role"] == "system"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "no prompts"),
        ('{"question": "a"}\n{"text": "b"}', r"q.jsonl:2 needs a"),
        ("a question", "q.jsonl:1 is not JSON"),
        ('{"question": " "}', r"q.jsonl:1 needs a"),
    ],
)
def test_a_bad_prompts_file_is_named_with_its_line(tmp_path: Path, content: str, words: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(content)
    with pytest.raises(PlanError, match=words):
        questions(path)


def test_a_missing_prompts_file_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read the prompts file"):
        questions(tmp_path / "absent.jsonl")


def test_synthetic_prompts_have_their_length_and_differ_but_repeat() -> None:
    texts = [synthetic(40, seed=1).prompt(index).messages[0]["content"] for index in range(50)]
    assert {len(text.split()) for text in texts} == {40}
    assert len(set(texts)) == 50
    assert texts == [synthetic(40, seed=1).prompt(index).messages[0]["content"] for index in range(50)]
    assert texts[0] != synthetic(40, seed=2).prompt(0).messages[0]["content"]


@pytest.mark.parametrize(("burstiness", "spread"), [(1.0, 1.0), (0.25, 2.0), (4.0, 0.5)])
def test_arrivals_have_their_rate_and_spread(burstiness: float, spread: float) -> None:
    """40,000 gaps: mean 1/rate, and a standard deviation of 1/sqrt(burstiness) means, as gamma gaps have it."""
    times = list(islice(starts(Open(2.5, burstiness), seed=5), 40_000))
    gaps = [after - before for before, after in pairwise([0.0, *times])]
    mean = sum(gaps) / len(gaps)
    deviation = (sum((gap - mean) ** 2 for gap in gaps) / len(gaps)) ** 0.5
    assert mean == pytest.approx(0.4, rel=0.03)
    assert deviation == pytest.approx(spread * mean, rel=0.03)


@pytest.fixture(scope="module")
def text() -> Text:
    return Text.from_model(packaged_minilm())


def test_no_prompt_begins_with_another(text: Text) -> None:
    """A prefix cache must not find the prompts of one shape in those of another."""
    prompts = [
        synthetic(tokens, 3, text).prompt(index).messages[0]["content"] for tokens in (40, 60) for index in (0, 1)
    ]
    assert len({prompt[:20] for prompt in prompts}) == 4


@pytest.mark.parametrize("tokens", [1, 2, 17, 700])
def test_with_a_tokenizer_lengths_are_exact(text: Text, tokens: int) -> None:
    found = [text.count(synthetic(tokens, 3, text).prompt(index).messages[0]["content"]) for index in range(20)]
    assert found == [tokens] * 20


def test_rag_prompts_share_their_topic_and_keep_their_length(text: Text) -> None:
    prompts = [rag(400, topics=5, text=text).prompt(index).messages for index in range(60)]
    systems = {messages[0]["content"] for messages in prompts}
    assert 2 <= len(systems) <= 5
    assert len({messages[1]["content"] for messages in prompts}) == 60
    assert {sum(text.count(message["content"]) for message in messages) for messages in prompts} == {400}
    common = {system.split("\n\n")[0] for system in systems}
    assert len(common) == 1, "the instructions come first and are the same for all"


def test_shared_prefixes_are_few_and_the_rest_is_each_ones_own(text: Text) -> None:
    prompts = [shared_prefix(64, 48, prefixes=3, text=text).prompt(index).messages for index in range(60)]
    assert len({messages[0]["content"] for messages in prompts}) == 3
    assert len({messages[1]["content"] for messages in prompts}) == 60
    assert {text.count(messages[0]["content"]) for messages in prompts} == {48}
    with pytest.raises(PlanError, match="too short"):
        shared_prefix(48, 48)


def test_a_folder_without_a_tokenizer_is_an_error_for_the_user(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot read the tokenizer"):
        Text.from_model(tmp_path)


TRACE = """TIMESTAMP,ContextTokens,GeneratedTokens
2023-11-16 18:15:50.9951690,396,109
2023-11-16 18:15:46.6805900,374,44
2023-11-16 18:15:56.6805900,5000,0
"""


def test_a_trace_is_replayed_in_its_order_lengths_and_times(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    load, workload = replay(path, 2.0, None, Text(), longest=1000)
    assert list(starts(load, seed=0)) == pytest.approx([0.0, 4.314579 / 2, 5.0], abs=1e-5)
    prompts = [workload.prompt(index) for index in range(3)]
    assert [(len(p.messages[0]["content"].split()), p.max_tokens) for p in prompts] == [
        (374, 44),
        (396, 109),
        (1000, 1),
    ]
    assert "1 of 3 prompts cut to 1000" in workload.label
    load, workload = replay(path, 1.0, "4:6", Text())
    assert list(starts(load, seed=0)) == pytest.approx([0.314579], abs=1e-5)
    assert workload.prompt(0).max_tokens == 109


@pytest.mark.parametrize(
    ("content", "window", "words"),
    [
        ("a,b\n1,2\n", None, "must name TIMESTAMP"),
        (TRACE + "yesterday,1,2\n", None, "trace.csv:5 is no request"),
        (TRACE + "2023-11-16 18:15:50.99\n", None, "trace.csv:5 is no request"),
        (TRACE, "20:30", "no requests in the window"),
        (TRACE, "9:3", "must be FROM:TO"),
        (TRACE, "a:b", "must be FROM:TO"),
    ],
)
def test_a_bad_trace_is_an_error_for_the_user(tmp_path: Path, content: str, window: str | None, words: str) -> None:
    path = tmp_path / "trace.csv"
    path.write_text(content)
    with pytest.raises(PlanError, match=words):
        replay(path, 1.0, window, Text())


def test_models_have_weights_and_keys_have_names(tmp_path: Path) -> None:
    assert targets(["support=3", "base"]) == (Target("support", 3.0), Target("base", 1.0))
    with pytest.raises(PlanError, match="is a weight"):
        targets(["support=much"])
    keys = tmp_path / "keys"
    keys.write_text("# ours\nsales sk-1\n\nsk-2\n")
    found = tenants(keys, None)
    assert [(tenant.name, tenant.key) for tenant in found] == [("sales", "sk-1"), ("key-2", "sk-2")]
    assert "sk-1" not in repr(found)
    keys.write_text("one two three\n")
    with pytest.raises(PlanError, match="a name and a key"):
        tenants(keys, None)
