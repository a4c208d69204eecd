"""What nobody may read is hidden before a text is cut, however it is spelt."""

import base64
import json
import threading
from contextlib import closing
from datetime import timedelta
from typing import Any, Literal
from urllib.parse import quote

import httpx
import pytest

from bridge.lib.errors import SourceRefused
from bridge.lib.masking import LONGEST_MASKED, LONGEST_MESSAGE, MASK, Masking
from bridge.source.outcall.client import OutcallList
from tests.fixtures.served_platform import CHANCE, NOW, served_platform

TOKEN = "Kq7/zR+mX2vT9=pLw4sYh8Jd3BnF6gUc"
MASKING = Masking([TOKEN, "pass word&'<1>", ""])


@pytest.mark.parametrize(
    "spelt",
    [
        TOKEN,
        f"Bearer {TOKEN}",
        quote(TOKEN, safe=""),
        quote(TOKEN, safe="").lower(),
        json.dumps("pass word&'<1>"),
        json.dumps(json.dumps({"a": TOKEN})),
        base64.b64encode(TOKEN.encode()).decode(),
        base64.b64encode(f"user:{TOKEN}".encode()).decode(),
        base64.b64encode(f"me:{TOKEN}:x".encode()).decode(),
        base64.urlsafe_b64encode(f"a{TOKEN}".encode()).decode(),
        TOKEN.encode().hex(),
        "pass word&amp;&#x27;&lt;1&gt;",
        "pass+word%26%27%3C1%3E",
        TOKEN[:20],
        f"{TOKEN[:28]}…",
    ],
)
def test_a_secret_is_hidden_however_it_is_spelt(spelt: str) -> None:
    for text in (spelt, f"refused: {spelt} is no token", "x" * 272 + spelt):
        shown = MASKING.masked(text, LONGEST_MESSAGE)
        assert TOKEN[:16] not in shown
        assert "pass" not in shown
        assert base64.b64encode(TOKEN.encode()).decode()[4:20] not in shown
        assert len(shown) <= LONGEST_MESSAGE
    assert MASK in MASKING.masked(f"refused: {spelt} is no token")


@pytest.mark.parametrize("cut", range(1, len(TOKEN), 3))
def test_truncated_answer_shows_no_part_of_a_secret(cut: int) -> None:
    shown = MASKING.masked("x" * (LONGEST_MASKED - cut) + TOKEN)
    assert not any(TOKEN[:size] in shown for size in range(4, len(TOKEN)))
    assert len(shown) < LONGEST_MASKED
    repeated = MASKING.masked(TOKEN * 5000)
    assert repeated == MASK * (len(repeated) // 3) + MASK[: len(repeated) % 3]


def test_phones_are_masked_before_truncation() -> None:
    assert "13800138000" not in MASKING.masked("x" * 292 + "13800138000", LONGEST_MESSAGE)
    assert MASKING.masked("call 13800138000") == "call 138****8000"


def test_text_without_secrets_is_unchanged() -> None:
    told = "contact 00Q5g00000ABCDE: field Grade__c too long (40), 2025-04-14T10:00:00Z"
    assert MASKING.masked(told) == told
    assert Masking([]).masked("y" * 2 * LONGEST_MASKED) == "y" * LONGEST_MASKED


@pytest.mark.parametrize("login", ["signed", "password"])
@pytest.mark.parametrize("before", [0, 190, 290, 540, 570])
def test_secrets_quoted_by_a_platform_are_hidden(login: Literal["signed", "password"], before: int) -> None:
    sent: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        sent.append(json.loads(request.content))
        told = "x" * before + " ".join(str(value) for value in sent[-1].values())
        return httpx.Response(200, json={"code": 1001, "msg": told})

    with served_platform() as served:
        api = served.api(login=login, access_secret=TOKEN)
        platform = OutcallList(
            api,
            clock=served.clock,
            rng=CHANCE,
            stop=threading.Event(),
            sleep=lambda _seconds: None,
            transport=httpx.MockTransport(answer),
        )
        with closing(platform), pytest.raises(SourceRefused) as refused:
            platform.page(NOW - timedelta(hours=1), NOW, 0, 1)
    hidden = [TOKEN, *(body["sign"] for body in sent if "sign" in body)]
    assert not [secret for secret in hidden if secret[:16] in str(refused.value)]
    assert len(str(refused.value)) < 800
