"""Drives a running tollgate with the official Python SDK, unmodified but for its server URL: provider credentials (BYOK)."""

import os
import warnings

from check import MANAGEMENT_KEY, MODEL, assert_money, assert_recent, exact, finish, operation
from client import client, refused, walk
from openrouter import errors

# The SDK takes any slug of a provider, and warns of one that it does not know.
warnings.filterwarnings("ignore", message="Pydantic serializer warnings", category=UserWarning)

NOBODY = "00000000-0000-4000-8000-000000000000"
SECRET = "sk-upstream-of-a-test-0123456789"
NONE = (errors.NotFoundResponseError, 404, "Provider credential not found")

management = client(MANAGEMENT_KEY)
byok, api_keys = management.byok, management.api_keys
name = f"sdk python {os.getpid()}"


def create(**request):
    return byok.create(**({"provider": "simulated", "key": SECRET} | request)).data


def assert_fields(answer, expected):
    for field, value in expected.items():
        assert getattr(answer, field) == value, f"{field}: {getattr(answer, field)!r}, and not {value!r}"


key = api_keys.create(name=name)

with operation("byok.create"):
    credential = create(name=name)
    defaults = {
        "provider": "simulated",
        "name": name,
        "label": "sk-...6789",
        "disabled": False,
        "is_fallback": False,
        "is_required": False,
        "is_byok_only": False,
        "sort_order": 0,
        "allowed_api_key_hashes": None,
        "allowed_models": None,
        "allowed_user_ids": None,
        "declared_region": None,
        "declared_zdr": None,
    }
    assert_fields(credential, defaults)
    assert_recent(credential.created_at, "created_at")
    assert SECRET not in repr(credential)

with operation("byok.create with lists"):
    lists = {"allowed_api_key_hashes": [key.data.hash], "allowed_models": [MODEL]}
    declared = {"declared_region": "europe", "declared_zdr": True}
    fallback = create(is_fallback=True, **lists, **declared)
    assert_fields(fallback, {"is_fallback": True} | lists | declared)

with operation("byok.create refuses"):
    bad = (errors.BadRequestResponseError, 400)
    refused(*bad, "simulated", create, provider="openai")
    refused(*bad, "hash", create, allowed_api_key_hashes=["0" * 64])
    refused(*bad, "is_fallback", create, is_fallback=True, is_byok_only=True)
    refused(*bad, "Workspace not found", create, workspace_id=NOBODY)

with operation("byok.list"):
    assert walk(byok.list(limit=1))[0] == [credential, fallback]
    assert byok.list(provider="openai").result.data == []

with operation("byok.get"):
    assert byok.get(id=fallback.id).data == fallback
    refused(*NONE, byok.get, id=NOBODY)

with operation("chat.send under an own credential"):
    inference = client(key.key)
    messages = [{"role": "user", "content": "Say a few words."}]
    usage = inference.chat.send(model=MODEL, messages=messages, max_completion_tokens=8).usage
    assert usage.is_byok is True
    assert usage.cost == 0
    list_price = usage.cost_details.upstream_inference_cost
    assert list_price > 0
    current = inference.api_keys.get_current_key_metadata().data
    assert_money(current.byok_usage, exact(list_price), "byok_usage")
    assert current.usage == 0

with operation("byok.update"):
    changed = byok.update(id=fallback.id, disabled=True, allowed_models=None, declared_zdr=None).data
    assert_fields(changed, {"disabled": True, "allowed_models": None, "declared_zdr": None, "is_fallback": True})
    assert byok.update(id=fallback.id, key=f"{SECRET}-new").data.label == "sk-...-new"
    refused(*NONE, byok.update, id=NOBODY, disabled=True)

with operation("byok.delete"):
    for made in (credential, fallback):
        assert byok.delete(id=made.id).DELETED is True
        refused(*NONE, byok.delete, id=made.id)
    assert walk(byok.list())[0] == []
    api_keys.delete(hash=key.data.hash)

finish()
