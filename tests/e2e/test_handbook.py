"""The main job: questions to `support-handbook`, answered from the right document or not at all."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import openai
import pytest
from openai.types.chat import ChatCompletion

from tests.conftest import ROOT, Stack

pytestmark = pytest.mark.e2e
MODEL = "support-handbook"
ANSWERABLE = {
    "How long can I stay home with our new baby on full pay?": "people/parental-leave.md",
    "When does my wage arrive in my bank account?": "people/pay-and-pension.md",
    "How long does my password have to be?": "it/accounts-and-passwords.md",
    "Which wifi should a customer who is visiting us join?": "it/remote-access.md",
    "My work phone was stolen on the train. What do I have to do?": "it/security-incidents.html",
    "For how many months is a station's battery covered by the guarantee?": "support/guarantee.pdf",
    "I don't like the gauge I bought from you. How long do I have to send it back?": "support/returns-and-refunds.md",
    "How expensive may my hotel room be on a business trip abroad?": "operations/travel-and-expenses.docx",
    "What do you charge to check my anemometer in the calibration lab?": "operations/calibration-lab.md",
    "What is the list price of an HR-200 weather station?": "product/hr-200-field-station.md",
}
UNANSWERABLE = (
    "Who won the football world cup in 1998?",
    "How long do I boil an egg so that the yolk stays soft?",
    "What is the capital of Mongolia?",
    "How do I tune a guitar by ear?",
    "What is the derivative of sine squared?",
)
FORMAT = re.compile(r"\*\*Answer:\*\* .+\*\*Next step:\*\* .+", re.DOTALL)


@pytest.fixture(scope="module")
def client(stack: Stack) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{stack.url}/v1", api_key="none", max_retries=0, timeout=180) as sdk:
        yield sdk


def ask(client: openai.OpenAI, question: str, model: str = MODEL, **options: Any) -> ChatCompletion:
    messages: Any = [{"role": "user", "content": question}]
    answer: ChatCompletion = client.chat.completions.create(model=model, messages=messages, **options)
    return answer


@pytest.mark.parametrize(("question", "document"), ANSWERABLE.items())
def test_an_answer_cites_the_right_document(client: openai.OpenAI, question: str, document: str) -> None:
    answer = ask(client, question, max_tokens=64)
    message, ours = answer.choices[0].message, answer.model_dump()["breakeven"]
    cited = [each.model_dump()["file_citation"] for each in message.annotations or []]
    assert cited[0]["filename"] == document
    assert message.content
    assert "abstained" not in ours
    passages = {each["id"]: each for each in ours["retrieval"]["passages"]}
    assert {each["passage_id"] for each in cited} == set(passages)
    assert float(ours["cost"]["usage_usd"]) > 0
    assert ours["tokens"]["retrieved_estimate"] > 0


@pytest.mark.parametrize("question", UNANSWERABLE)
def test_without_evidence_it_abstains(client: openai.OpenAI, question: str) -> None:
    answer = ask(client, question)
    assert answer.choices[0].message.content == "I could not find anything about that in the handbook."
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model_dump()["breakeven"]["abstained"] is True


def test_a_stream_ends_with_its_citations_and_cost(client: openai.OpenAI) -> None:
    question, document = next(iter(ANSWERABLE.items()))
    messages: Any = [{"role": "user", "content": question}]
    stream = client.chat.completions.create(model=MODEL, messages=messages, stream=True, max_tokens=48)
    chunks = [chunk.model_dump() for chunk in stream]
    assert chunks[-2]["choices"][0]["delta"]["annotations"][0]["file_citation"]["filename"] == document
    assert chunks[-1]["choices"][0]["finish_reason"] in ("stop", "length")
    assert float(chunks[-1]["breakeven"]["cost"]["allocation_usd"]) > 0


def test_the_adapter_changes_behaviour_plainly(client: openai.OpenAI) -> None:
    lines = (ROOT / "examples" / "support" / "heldout.jsonl").read_text().splitlines()
    questions = [json.loads(line)["messages"][-1]["content"] for line in lines]
    assert len(questions) == 50

    def gains(question: str) -> bool:
        trained = ask(client, question, "support", max_tokens=96).choices[0].message.content or ""
        plain = ask(client, question, "smollm2", max_tokens=96, temperature=0).choices[0].message.content or ""
        return bool(FORMAT.search(trained)) and not FORMAT.search(plain)

    # A share of the 50 is asked over HTTP here; all 50 are in the adapter's manifest, scored when it was trained.
    asked = questions[::5]
    with ThreadPoolExecutor(len(asked)) as threads:
        assert sum(threads.map(gains, asked)) >= 0.9 * len(asked)
