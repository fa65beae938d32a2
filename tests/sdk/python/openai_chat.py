"""Drives a running tollgate with the official OpenAI client, unmodified but for its base URL.

Keys are made and changed through its door for undocumented paths, as it knows nothing about them.
"""

import os
import re
from decimal import Decimal

import openai
from check import (
    BASE_URL,
    MANAGEMENT_KEY,
    MODEL,
    assert_money,
    exact,
    finish,
    operation,
    unaffordable,
)
from openai import OpenAI

MESSAGES = [{"role": "user", "content": "Say a few words."}]

management = OpenAI(base_url=BASE_URL, api_key=MANAGEMENT_KEY)
created = management.post(
    "/keys", cast_to=object, body={"name": f"openai python {os.getpid()}", "limit": 0.01}
)
key_path = f"/keys/{created['data']['hash']}"
client = OpenAI(base_url=BASE_URL, api_key=created["key"])


def set_limit(limit):
    management.patch(key_path, cast_to=object, body={"limit": limit})


def chat(**request):
    request = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 200} | request
    return client.chat.completions.create(**request)


def refused(kind, status, message, call, *args, **kwargs):
    try:
        call(*args, **kwargs)
    except kind as error:
        assert error.status_code == status, error
        assert error.code == str(status), error
        assert error.body["code"] == status, error
        assert re.search(message, error.body["message"]), error
        return error
    raise AssertionError(f"answered, instead of {status}")


def assert_usage(usage):
    assert usage, "no usage"
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    cost = exact(usage.cost)
    assert cost > 0, "a priced call cost nothing"
    return cost


def used():
    return client.get("/key", cast_to=object)["data"]["usage"]


spent = Decimal(0)

with operation("models.list"):
    models = list(client.models.list())
    assert len({model.id for model in models}) == len(models), "a model was listed twice"
    (model,) = [model for model in models if model.id == MODEL]

with operation("chat.completions.create"):
    raw = client.chat.completions.with_raw_response.create(
        model=MODEL, messages=MESSAGES, max_completion_tokens=200
    )
    result = raw.parse()
    assert re.fullmatch(r"gen-\d+-[0-9A-Za-z]{20}", result.id)
    assert raw.headers["x-generation-id"] == result.id
    assert result.object == "chat.completion"
    assert result.model == MODEL
    assert result.choices[0].message.role == "assistant"
    assert result.choices[0].message.content
    assert result.choices[0].finish_reason == "stop"
    spent += assert_usage(result.usage)

for variant, options in [
    ("without stream_options", {}),
    ("with include_usage", {"stream_options": {"include_usage": True}}),
    ("with include_usage false", {"stream_options": {"include_usage": False}}),
]:
    with operation(f"chat.completions.create streamed {variant}"):
        ids, usages, content, finish_reason = set(), [], "", None
        with chat(stream=True, **options) as stream:
            assert stream.response.headers["content-type"].startswith("text/event-stream")
            for chunk in stream:
                assert not usages, "a chunk after the usage"
                ids.add(chunk.id)
                for choice in chunk.choices:
                    content += choice.delta.content or ""
                    finish_reason = choice.finish_reason or finish_reason
                if chunk.usage:
                    usages.append(chunk.usage)
        assert content, "no content"
        assert finish_reason == "stop"
        assert ids == {stream.response.headers["x-generation-id"]}
        assert len(usages) == 1, "not exactly one chunk with usage"
        spent += assert_usage(usages[0])

with operation("chat.completions.stream"):
    with client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, max_completion_tokens=200
    ) as stream:
        final = stream.get_final_completion()
    assert final.choices[0].message.content
    assert final.choices[0].finish_reason == "stop"
    spent += assert_usage(final.usage)

with operation("usage is the sum of the costs"):
    assert_money(used(), spent, "usage")

with operation("402 APIStatusError when max_tokens cannot be afforded"):
    room, max_tokens = unaffordable(
        model.pricing["prompt"],
        model.pricing["completion"],
        model.pricing.get("request"),
        model.top_provider.get("max_completion_tokens"),
    )
    set_limit(float(spent + room))
    fewer = "requires more credits, or fewer max_tokens"
    refused(openai.APIStatusError, 402, fewer, chat, max_completion_tokens=max_tokens)
    refused(openai.APIStatusError, 402, fewer, chat, max_tokens=max_tokens, max_completion_tokens=openai.omit)

with operation("403 PermissionDeniedError with a spent limit"):
    set_limit(float(spent))
    total_limit = r"^Key limit exceeded \(total limit\)"
    refused(openai.PermissionDeniedError, 403, total_limit, chat)
    refused(openai.PermissionDeniedError, 403, total_limit, chat, stream=True)

with operation("refusals cost nothing"):
    assert_money(used(), spent, "usage")

with operation("an unknown model"):
    set_limit(None)
    try:
        chat(model="nobody/nothing")
        raise AssertionError("answered")
    except (openai.BadRequestError, openai.NotFoundError) as error:
        assert "nobody/nothing" in error.body["message"]

with operation("400 BadRequestError for max_tokens 0"):
    refused(openai.BadRequestError, 400, "max_completion_tokens|max_tokens", chat, max_completion_tokens=0)

with operation("404 NotFoundError for an unknown key"):
    refused(
        openai.NotFoundError, 404, "API key not found",
        management.get, f"/keys/{'0' * 64}", cast_to=object,
    )

with operation("401 AuthenticationError"):
    unknown = (openai.AuthenticationError, 401, "User not found")
    stranger = OpenAI(base_url=BASE_URL, api_key="sk-or-v1-" + "0" * 64)
    refused(*unknown, stranger.chat.completions.create, model=MODEL, messages=MESSAGES)
    management.delete(key_path, cast_to=object)
    refused(*unknown, chat)

finish()
