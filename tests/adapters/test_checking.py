"""The check of a data set: seeded mistakes are all found, by line, and a clean file has none."""

import json
import random
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from adapters.checking import check
from adapters.dataset import load_chat, scan_chat
from adapters.duplicates import contradictions, copies, leaks, near
from adapters.encoding import IGNORED, Encoder
from adapters.errors import MalformedData, MissingBase
from adapters.findings import KINDS, Report
from adapters.speed import Machine, Price, Speed, estimate, recall, remember
from tests.adapters.tiny import TEMPLATE, chat, make_base

# Renders tools and calls, and only the last assistant turn whole, as the templates of reasoning models do.
TOOL_TEMPLATE = (
    "{% for tool in tools or [] %}<tool>{{ tool['function']['name'] }}{% endfor %}"
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}"
    "{% for c in m['tool_calls'] or [] %}{{ c['function']['name'] }}({{ c['function']['arguments']['x'] }}){% endfor %}"
    "{% if m['role'] == 'assistant' and loop.last %}!{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Encoder:
    return Encoder(make_base(tmp_path_factory.mktemp("base")))


def sentence(seed: int, words: int = 12) -> str:
    dice = random.Random(seed)
    return " ".join("".join(dice.choices("abcdefghijklmnop", k=dice.randint(3, 8))) for _ in range(words))


def write(path: Path, *lines: str) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def clean(count: int, start: int = 0) -> list[str]:
    return [chat(sentence(2 * n), sentence(2 * n + 1)) for n in range(start, start + count)]


def lines_of(report: Report, kind: str) -> list[tuple[str, int]]:
    return [(finding.file, finding.line) for finding in report.findings if finding.kind == kind]


def test_a_clean_set_has_no_findings(tmp_path: Path, encoder: Encoder) -> None:
    train, held = write(tmp_path / "train.jsonl", *clean(50)), write(tmp_path / "held.jsonl", *clean(10, start=50))
    report = check(train, held, encoder, max_length=1000, epochs=2)
    assert report.findings == () and report.errors == 0
    assert (report.examples, report.validation, report.labels) == (50, 10, {})
    assert report.sha256 == load_chat(train, last="assistant").sha256


def test_every_seeded_mistake_is_found_on_its_line(tmp_path: Path, encoder: Encoder) -> None:
    good = clean(40)
    near_copy = chat(sentence(0), sentence(1) + " more")
    bad = [
        "{",  # 41
        chat("a"),  # 42: ends with the user
        '{"messages": []}',  # 43
        '{"messages": [{"content": "who?"}]}',  # 44
        chat("a", " "),  # 45
        chat("a", "b", tools=[{"type": "function", "function": {"name": "f"}}]),  # 46
        chat(sentence(900, 300), "long"),  # 47
        good[3],  # 48
        near_copy,  # 49
        chat("Reach me", f"at {'jo'}@corp.io"),  # 50
        chat(sentence(901), "AKIA" + "ABCDEFGH" * 2),  # 51
        chat(sentence(0), sentence(902)),  # 52: line 1 answers otherwise
    ]
    held = [good[5], chat(sentence(20) + " more", sentence(21)), *clean(3, start=100)]
    report = check(
        write(tmp_path / "train.jsonl", *good, *bad), write(tmp_path / "held.jsonl", *held), encoder, 1000, epochs=1
    )
    found = {kind: lines_of(report, kind) for kind in KINDS}
    assert found == {
        "malformed": [("train.jsonl", 41)],
        "role": [("train.jsonl", 44)],
        "no-assistant": [("train.jsonl", 42)],
        "empty": [("train.jsonl", 43), ("train.jsonl", 45)],
        "tools": [],
        "unfit": [("train.jsonl", 46)],
        "too-long": [("train.jsonl", 47)],
        "secret": [("train.jsonl", 51)],
        "leak": [("held.jsonl", 1)],
        "personal": [("train.jsonl", 50)],
        "copy": [("train.jsonl", 48)],
        "contradiction": [("train.jsonl", 49), ("train.jsonl", 52)],
        "near-copy": [("train.jsonl", 49)],
        "near-leak": [("held.jsonl", 2)],
        "imbalance": [],
    }
    assert report.errors == 9
    json.dumps(report.as_dict())
    shown = list(report.lines(per_kind=1))
    assert "  train.jsonl:43: " in "\n".join(shown) and "train.jsonl:45" not in "\n".join(shown)
    assert "  ... and 1 more (--show 2)" in shown
    assert "jo@corp.io" not in "\n".join(report.lines(99)) + json.dumps(report.as_dict())


def test_labels_out_of_balance_and_unknown_ones(tmp_path: Path, encoder: Encoder) -> None:
    rows = [chat(sentence(n), "card" if n < 40 else "loan" if n < 60 else "rare") for n in range(63)]
    held = [chat(sentence(500), "card"), chat(sentence(501), "mortgage")]
    report = check(write(tmp_path / "t.jsonl", *rows), write(tmp_path / "v.jsonl", *held), encoder, 1000, 1)
    assert report.labels == {"card": 40, "loan": 20, "rare": 3}
    assert lines_of(report, "imbalance") == [("t.jsonl", 0), ("v.jsonl", 2)]
    assert report.errors == 0


def test_tokens_are_those_that_training_counts(tmp_path: Path, encoder: Encoder) -> None:
    path = write(tmp_path / "t.jsonl", *clean(20))
    report = check(path, None, encoder, max_length=1000, epochs=1)
    sequences = [sequence for _, sequence in encoder.encode_all(load_chat(path, "assistant"))[0]]
    assert report.tokens is not None
    assert report.tokens.total == sum(len(sequence.ids) for sequence in sequences)
    assert report.tokens.trained == sum(label != IGNORED for each in sequences for label in each.labels)
    assert report.tokens.p50 <= report.tokens.p95 <= report.tokens.longest


def trained_text(encoder: Encoder, path: Path) -> list[str]:
    """What carries loss, per sequence."""
    encoded, problems = encoder.encode_all(load_chat(path, "assistant"))
    assert problems == []
    return [encoder.tokenizer.decode([label for label in each.labels if label != IGNORED]) for _, each in encoded]


def test_a_template_that_renders_earlier_turns_differently_gets_a_sequence_per_turn(tmp_path: Path) -> None:
    path = write(tmp_path / "t.jsonl", chat("a?", "first", "b?", "second"))
    same = Encoder(make_base(tmp_path / "same", TEMPLATE))
    assert trained_text(same, path) == ["first<|im_end|>\nsecond<|im_end|>\n"]
    other = Encoder(make_base(tmp_path / "other", TOOL_TEMPLATE))
    assert trained_text(other, path) == ["first!<|im_end|>\n", "second!<|im_end|>\n"]


def test_tools_reach_the_template(tmp_path: Path) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"x": 5}'}}
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": "5?"},
        {"role": "assistant", "content": None, "tool_calls": [call], "weight": 0},
        {"role": "tool", "tool_call_id": "1", "content": "five"},
        {"role": "assistant", "content": "It is five."},
    ]
    tools = [{"type": "function", "function": {"name": "look"}}]
    path = write(tmp_path / "t.jsonl", chat(messages=messages, tools=tools, parallel_tool_calls=False))
    encoder = Encoder(make_base(tmp_path / "base", TOOL_TEMPLATE))
    assert trained_text(encoder, path) == ["It is five.!<|im_end|>\n"]
    [(_, sequence)] = encoder.encode_all(load_chat(path, "assistant"))[0]
    whole = encoder.tokenizer.decode(sequence.ids)
    assert whole.startswith("<tool>look") and "look(5)" in whole and "five" in whole


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"tools": {}}, "tools must be a list"),
        ({"parallel_tool_calls": "no"}, "true or false"),
        ({"messages": [{"role": "user", "content": "a", "weight": 1}]}, "user message has no key 'weight'"),
        ({"messages": [{"role": "assistant", "content": "a", "weight": 2}]}, "weight must be 0 or 1, not 2"),
        ({"messages": [{"role": "assistant", "tool_calls": [{}]}]}, 'needs "function"'),
        ({"messages": [{"role": "tool", "content": "a", "tool_call_id": "1"}]}, "ends? with a message|must end"),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "assistant", "content": "a", "weight": 0},
                ]
            },
            "every assistant message has weight 0",
        ),
        (
            {
                "messages": [
                    {"role": "user", "content": "a"},
                    {"role": "tool", "content": "a"},
                    {"role": "assistant", "content": "a"},
                ]
            },
            "message 2 is a tool's answer that no tool call asked for",
        ),
    ],
)
def test_tools_and_weights_that_make_no_sense(tmp_path: Path, change: dict[str, Any], why: str) -> None:
    path = write(tmp_path / "t.jsonl", json.dumps({**json.loads(chat("a", "b")), **change}))
    with pytest.raises(MalformedData, match=why):
        load_chat(path, "assistant")


def test_a_folder_without_a_tokenizer_or_a_template_is_refused(tmp_path: Path) -> None:
    with pytest.raises(MissingBase, match="tokenizer"):
        Encoder(tmp_path)
    with pytest.raises(MissingBase, match="chat template"):
        Encoder(make_base(tmp_path / "plain", ""))


def test_boilerplate_and_system_prompts_make_nothing_alike(tmp_path: Path) -> None:
    system = {"role": "system", "content": sentence(1, 200)}
    rows = []
    for n in range(40):
        asked = [
            {"role": "user", "content": f"Classify this text, please, and give one word only: {sentence(100 + n)}"}
        ]
        rows.append(json.dumps({"messages": [system, *asked, {"role": "assistant", "content": "card"}]}))
    examples = scan_chat(write(tmp_path / "t.jsonl", *rows), "assistant").dataset.examples
    assert near(examples) == () and copies(examples) == () and contradictions(examples) == ()
    assert leaks(examples[:20], examples[20:]) == ()


def test_near_copies_are_found_among_thousands(tmp_path: Path) -> None:
    rows = clean(1000)
    changed = [chat(sentence(2 * n), sentence(2 * n + 1)[:-3]) for n in range(0, 1000, 10)]
    examples = scan_chat(write(tmp_path / "t.jsonl", *rows, *changed), "assistant").dataset.examples
    found = near(examples)
    assert [twin.other for twin in found] == [n + 1 for n in range(0, 1000, 10)]
    assert all(0.8 <= twin.similarity < 1 for twin in found)


def test_an_estimate_rests_on_a_measured_speed_only(tmp_path: Path) -> None:
    machine = Machine(tmp_path / "state", "a CPU", Price(Decimal("0.36"), "the contract"))
    assert recall(machine, "base") is None
    speed = Speed(
        tokens_per_s=50.0,
        steps=7,
        measured="2026-11-20",
        batch_size=4,
        dtype="bfloat16",
        packing=False,
        quantization="none",
    )
    remember(machine, "base", speed)
    remember(machine, "other base", speed)
    assert recall(machine, "base") == speed
    assert recall(Machine(machine.state, "a GPU"), "base") is None
    took = estimate(50_000, speed, machine.price)
    assert took.seconds == 1000 and took.usd is not None and round(took.usd, 6) == Decimal("0.1")
    assert estimate(50_000, speed, None).usd is None
    (machine.state / "speeds.json").write_text("damaged")
    assert recall(machine, "base") is None
