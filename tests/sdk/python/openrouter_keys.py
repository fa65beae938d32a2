"""Drives a running tollgate with the official OpenRouter SDK, unmodified but for its server URL."""

import os
import re
import warnings
from datetime import datetime, timedelta, timezone

from check import (
    MANAGEMENT_KEY,
    MODEL,
    assert_money,
    assert_recent,
    exact,
    finish,
    operation,
    unaffordable,
)
from client import client, refused
from openrouter import errors

# The SDK warns when a deprecated field of an answer is read; those are part of the contract too.
warnings.filterwarnings("ignore", category=DeprecationWarning)

PAGE = 100
LIMIT = 0.01
MESSAGES = [{"role": "user", "content": "Say a few words."}]
GENERATION_ID = re.compile(r"gen-\d+-[0-9A-Za-z]{20}")
COUNTERS = ["usage", "usage_daily", "usage_weekly", "usage_monthly"]
BYOK_COUNTERS = ["byok_usage", "byok_usage_daily", "byok_usage_weekly", "byok_usage_monthly"]

management = client(MANAGEMENT_KEY)


def list_all(include_disabled=None):
    keys = []
    while True:
        page = management.api_keys.list(include_disabled=include_disabled, offset=len(keys)).data
        assert len(page) <= PAGE
        keys += page
        if len(page) < PAGE:
            return keys


def find(keys, key_hash):
    return next((key for key in keys if key.hash == key_hash), None)


def assert_unused(key):
    for counter in COUNTERS + BYOK_COUNTERS:
        assert getattr(key, counter) == 0, counter


def dump(key):
    return key.model_dump(mode="json")


name = f"sdk python {os.getpid()}"

with operation("api_keys.create"):
    created = management.api_keys.create(
        name=name, limit=LIMIT, limit_reset="monthly", include_byok_in_limit=True
    )
    key = created.data
    assert re.fullmatch(r"sk-or-v1-[0-9a-f]{64}", created.key)
    assert re.fullmatch(r"[0-9a-f]{64}", key.hash)
    assert key.label == f"{created.key[:12]}...{created.key[-3:]}"
    assert key.name == name
    assert key.disabled is False
    assert key.limit == LIMIT
    assert key.limit_remaining == LIMIT
    assert key.limit_reset == "monthly"
    assert key.include_byok_in_limit is True
    assert key.updated_at is None
    assert not key.expires_at
    assert key.last_used_at is None
    assert key.external_user is None
    assert key.workspace_id
    assert_recent(key.created_at, "created_at")
    assert_unused(key)

key_hash = key.hash
inference = client(created.key)

with operation("api_keys.create with an expiry and no limit"):
    expires_at = (datetime.now(timezone.utc) + timedelta(hours=1)).replace(microsecond=123_000)
    other = management.api_keys.create(name=f"{name} other", expires_at=expires_at)
    assert other.data.expires_at == expires_at, other.data.expires_at
    assert other.data.limit is None
    assert other.data.limit_remaining is None
    assert other.data.limit_reset is None
    assert other.data.include_byok_in_limit is False
    assert other.key != created.key
    assert other.data.hash != key_hash

with operation("api_keys.create refuses a negative limit"):
    refused(errors.BadRequestResponseError, 400, ".", management.api_keys.create, name=name, limit=-1)

with operation("api_keys.list"):
    listed = management.api_keys.list().data
    assert dump(find(listed, key_hash)) == dump(key)
    assert dump(find(listed, other.data.hash)) == dump(other.data)

with operation("api_keys.list by offset"):
    every = [key.hash for key in list_all(include_disabled=True)]
    assert len(set(every)) == len(every), "a key was listed twice"
    rest = management.api_keys.list(include_disabled=True, offset=1).data
    assert [key.hash for key in rest] == every[1 : PAGE + 1]
    assert management.api_keys.list(include_disabled=True, offset=len(every)).data == []

with operation("api_keys.list with expired ones, in a workspace"):
    listed = management.api_keys.list(include_expired=True, workspace_id=key.workspace_id).data
    assert find(listed, key_hash)
    assert find(management.api_keys.list(include_expired=False).data, key_hash)

with operation("api_keys.get"):
    assert dump(management.api_keys.get(hash=key_hash).data) == dump(key)


def update(**changes):
    return management.api_keys.update(hash=key_hash, **changes).data


with operation("api_keys.update renames"):
    changed = update(name=f"{name} renamed")
    assert_recent(changed.updated_at, "updated_at")
    assert dump(changed) == dump(key) | {"name": f"{name} renamed", "updated_at": changed.updated_at}

with operation("api_keys.update refuses an empty change"):
    refused(errors.BadRequestResponseError, 400, "No update fields provided", update)

with operation("api_keys.update disables"):
    assert update(disabled=True).disabled is True
    assert not find(list_all(), key_hash), "a disabled key is listed"
    assert not find(list_all(include_disabled=False), key_hash), "a disabled key is listed"
    assert find(list_all(include_disabled=True), key_hash).disabled is True
    assert management.api_keys.get(hash=key_hash).data.disabled is True


def chat(**request):
    request = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 200} | request
    return inference.chat.send(**request)


with operation("chat.send with a disabled key"):
    refused(errors.UnauthorizedResponseError, 401, "User not found", chat)

with operation("api_keys.update enables again"):
    assert update(disabled=False).disabled is False
    assert find(list_all(), key_hash)

with operation("api_keys.update changes the limit"):
    changed = update(limit=2.5, limit_reset="weekly", include_byok_in_limit=False)
    assert changed.limit == 2.5
    assert changed.limit_remaining == 2.5
    assert changed.limit_reset == "weekly"
    assert changed.include_byok_in_limit is False
    assert changed.name == f"{name} renamed"

with operation("api_keys.update takes the limit away"):
    changed = update(limit=None, limit_reset=None)
    assert changed.limit is None
    assert changed.limit_remaining is None
    assert changed.limit_reset is None

with operation("api_keys.update sets the limit again"):
    changed = update(limit=LIMIT, limit_reset="monthly")
    assert changed.limit == LIMIT
    assert changed.limit_remaining == LIMIT
    assert changed.limit_reset == "monthly"

with operation("api_keys.get_current_key_metadata"):
    current = inference.api_keys.get_current_key_metadata().data
    assert current.label == key.label
    assert current.limit == LIMIT
    assert current.limit_remaining == LIMIT
    assert current.limit_reset == "monthly"
    assert current.include_byok_in_limit is False
    assert current.is_management_key is False
    assert current.is_provisioning_key is False
    assert current.workspace_id == key.workspace_id
    assert current.rate_limit.requests == -1
    assert current.effective_budget.scope == "key_limit"
    assert current.effective_budget.limit_usd == LIMIT
    assert current.effective_budget.remaining_usd == LIMIT
    assert current.effective_budget.reset_interval == "monthly"
    assert current.effective_budget.resets_at > datetime.now(timezone.utc)
    assert current.budgets == [current.effective_budget]
    assert_unused(current)

with operation("api_keys.get_current_key_metadata of the management key"):
    current = management.api_keys.get_current_key_metadata().data
    assert current.is_management_key is True
    assert current.is_provisioning_key is True

with operation("models.list"):
    models = []
    page = client().models.list(limit=1)
    total = page.result.total_count
    while page is not None:
        assert page.result.total_count == total
        models += page.result.data
        page = page.next()
    assert len(models) == total
    assert len({model.id for model in models}) == total, "a model was listed twice"
    whole_list = client().models.list().result
    assert [model.id for model in whole_list.data] == [model.id for model in models]
    (model,) = [model for model in models if model.id == MODEL]
    assert float(model.pricing.prompt) > 0
    assert float(model.pricing.completion) > 0
    assert model.context_length > 0

with operation("models.count"):
    assert client().models.count().data.count == total


def assert_usage(usage):
    assert usage, "no usage"
    assert usage.prompt_tokens > 0
    assert usage.completion_tokens > 0
    assert usage.total_tokens == usage.prompt_tokens + usage.completion_tokens
    assert usage.is_byok is False
    cost = exact(usage.cost)
    assert cost > 0, "a priced call cost nothing"
    parts = usage.cost_details
    completion = exact(parts.upstream_inference_completions_cost)
    assert exact(parts.upstream_inference_prompt_cost) + completion >= cost
    return cost


with operation("chat.send"):
    whole = chat()
    assert GENERATION_ID.fullmatch(whole.id)
    assert whole.object == "chat.completion"
    assert whole.model == MODEL
    assert len(whole.choices) == 1
    assert whole.choices[0].message.role == "assistant"
    assert whole.choices[0].message.content
    assert whole.choices[0].finish_reason == "stop"
    whole_cost = assert_usage(whole.usage)

with operation("chat.send streamed"):
    ids, usages, content, finish_reason = set(), [], "", None
    with chat(stream=True) as stream:
        for chunk in stream:
            assert not chunk.error, chunk
            assert chunk.object == "chat.completion.chunk"
            assert chunk.model == MODEL
            assert not usages, "a chunk after the usage"
            ids.add(chunk.id)
            for choice in chunk.choices:
                content += choice.delta.content or ""
                finish_reason = choice.finish_reason or finish_reason
            if chunk.usage:
                usages.append(chunk.usage)
    assert content, "no content"
    assert finish_reason == "stop"
    assert len(usages) == 1, "not exactly one chunk with usage"
    (streamed_id,) = ids
    assert GENERATION_ID.fullmatch(streamed_id)
    assert streamed_id != whole.id
    streamed_cost = assert_usage(usages[0])

spent = whole_cost + streamed_cost


def assert_spent():
    seen = [
        inference.api_keys.get_current_key_metadata().data,
        management.api_keys.get(hash=key_hash).data,
    ]
    for key in seen:
        for counter in COUNTERS:
            assert_money(getattr(key, counter), spent, counter)
        for counter in BYOK_COUNTERS:
            assert getattr(key, counter) == 0, counter
    return seen


with operation("usage is the sum of the costs"):
    current, managed = assert_spent()
    for seen in (current, managed):
        assert_money(seen.limit_remaining, exact(LIMIT) - spent, "limit_remaining")
    assert_money(current.effective_budget.spend_usd, spent, "spend_usd")
    assert_money(current.effective_budget.remaining_usd, exact(LIMIT) - spent, "remaining_usd")
    assert managed.last_used_at is not None

with operation("generations.get_generation"):
    for generation_id, usage, cost, streamed in [
        (whole.id, whole.usage, whole_cost, False),
        (streamed_id, usages[0], streamed_cost, True),
    ]:
        generation = inference.generations.get_generation(id=generation_id).data
        assert generation.id == generation_id
        assert generation.model == MODEL
        assert generation.streamed is streamed
        assert generation.is_byok is False
        assert generation.finish_reason == "stop"
        assert generation.native_tokens_prompt == usage.prompt_tokens
        assert generation.native_tokens_completion == usage.completion_tokens
        assert_money(generation.total_cost, cost, "total_cost")
        assert_money(generation.usage, cost, "usage")
        assert_recent(generation.created_at, "created_at")

with operation("generations.get_generation of an unknown id"):
    refused(
        errors.NotFoundResponseError, 404, ".",
        inference.generations.get_generation, id="gen-1700000000-aaaaaaaaaaaaaaaaaaaa",
    )

with operation("chat.send that cannot be afforded"):
    room, max_tokens = unaffordable(
        model.pricing.prompt,
        model.pricing.completion,
        model.pricing.request,
        model.top_provider.max_completion_tokens,
    )
    update(limit=float(spent + room))
    error = refused(
        errors.PaymentRequiredResponseError, 402, "requires more credits, or fewer max_tokens",
        chat, max_completion_tokens=max_tokens,
    )
    amounts = re.search(r"up to (\d+) tokens, but can only afford (\d+)", error.message)
    assert int(amounts[1]) == max_tokens
    assert int(amounts[2]) < max_tokens
    refused(
        errors.PaymentRequiredResponseError, 402, "requires more credits, or fewer max_tokens",
        chat, max_completion_tokens=max_tokens, stream=True,
    )

with operation("chat.send with a spent limit"):
    spent_limit = r"^Key limit exceeded \(monthly limit\)"
    assert update(limit=float(spent)).limit_remaining == 0
    refused(errors.ForbiddenResponseError, 403, spent_limit, chat)
    refused(errors.ForbiddenResponseError, 403, spent_limit, chat, stream=True)
    update(limit_reset=None)
    refused(errors.ForbiddenResponseError, 403, r"^Key limit exceeded \(total limit\)", chat)

with operation("refusals cost nothing"):
    assert_spent()

with operation("chat.send with an unknown model"):
    update(limit=LIMIT)
    try:
        chat(model="nobody/nothing")
        raise AssertionError("answered")
    except (errors.BadRequestResponseError, errors.NotFoundResponseError) as error:
        assert "nobody/nothing" in error.message

with operation("credentials are kept apart"):
    unauthorized = errors.UnauthorizedResponseError
    refused(unauthorized, 401, "Invalid management key", inference.api_keys.list)
    refused(
        unauthorized, 401, "User not found",
        management.chat.send, model=MODEL, messages=MESSAGES,
    )
    refused(
        unauthorized, 401, "Missing Authentication header",
        client().api_keys.get_current_key_metadata,
    )

with operation("api_keys.delete"):
    for each in (key_hash, other.data.hash):
        assert management.api_keys.delete(hash=each).DELETED is True

with operation("api_keys.get of a deleted key"):
    not_found = (errors.NotFoundResponseError, 404, "API key not found")
    refused(*not_found, management.api_keys.get, hash=key_hash)
    refused(*not_found, update, name=name)
    refused(*not_found, management.api_keys.delete, hash=key_hash)
    assert not find(list_all(include_disabled=True), key_hash), "a deleted key is listed"

with operation("use of a deleted key"):
    unknown = (errors.UnauthorizedResponseError, 401, "User not found")
    refused(*unknown, chat)
    refused(*unknown, chat, stream=True)
    refused(*unknown, inference.api_keys.get_current_key_metadata)

finish()
