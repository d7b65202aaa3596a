"""What is obvious is found; what only looks like it is not; and what was found is not repeated."""

import pytest

from adapters.privacy import sensitive

# Put together here, so that no scanner takes this file for a leak.
SECRETS = {
    "AWS access key": "AKIA" + "IOSFODNN7EXAMPLE",
    "GitHub token": "ghp_" + "a1" * 18,
    "OpenAI or Anthropic key": "sk-" + "proj-" + "a1" * 20,
    "Hugging Face token": "hf_" + "aB" * 17,
    "Slack token": "xoxb-" + "1234567890-abcdef",
    "Google API key": "AIza" + "b" * 35,
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----",
    "JSON web token": ".".join(("eyJ" + "a" * 20, "eyJ" + "b" * 20, "c" * 20)),
    "password in a URL": "postgres://app:" + "hunter22@db/app",
    "Breakeven key": "bk-" + "x" * 32,
}
PERSONAL = {
    "jane.doe+x@corp.co.uk": "e-mail address",
    "+49 30 1234567": "phone number",
    "(555) 123-4567": "phone number",
    "030 123 45 67": "phone number",
    "4111 1111 1111 1111": "card number",
    "5500-0000-0000-0004": "card number",
    "DE89 3704 0044 0532 0130 00": "IBAN",
    "GB82WEST12345698765432": "IBAN",
}
HARMLESS = (
    "4111 1111 1111 1112",  # wrong check digit
    "DE88 3704 0044 0532 0130 00",  # the same
    "order 1234567890123456",
    "0000 0000 0000 0000",
    "05-11-2026 and 2026-11-05 at 08:30",
    "help@example.com or root@localhost",
    "AKIA is a prefix, sk-learn a library",
    "version 1.2.3.4, 10 000 000 people, +5 points",
)


@pytest.mark.parametrize(("what", "secret"), SECRETS.items())
def test_secrets(what: str, secret: str) -> None:
    found = list(sensitive(f"Use {secret} for it."))
    assert [(each.kind, each.what) for each in found if each.kind == "secret"] == [("secret", what)]
    assert all(secret not in each.hint for each in found)


@pytest.mark.parametrize(("text", "what"), PERSONAL.items())
def test_personal_data(text: str, what: str) -> None:
    assert [(each.kind, each.what) for each in sensitive(f"It is {text}, OK?")] == [("personal", what)]


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it(text: str) -> None:
    assert list(sensitive(text)) == []


def test_an_iban_before_words_in_capitals() -> None:
    assert [each.what for each in sensitive("Pay to DE89 3704 0044 0532 0130 00 NOW")] == ["IBAN"]
