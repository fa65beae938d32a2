"""Drives a running tollgate with the official OpenRouter SDK, unmodified but for its server URL.

Workspaces, members, budgets, guardrails and credits.
"""

import os
import re
import warnings
from datetime import datetime, timezone

from check import (
    MANAGEMENT_KEY,
    MODEL,
    assert_money,
    assert_recent,
    exact,
    finish,
    operation,
    plain,
)
from client import client, refused, walk
from openrouter import errors

# The SDK warns when a deprecated field of an answer is read; those are part of the contract too.
warnings.filterwarnings("ignore", category=DeprecationWarning)

NOBODY = "00000000-0000-4000-8000-000000000000"
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
# The broadest first: the order in which they are listed and enforced.
BUDGETS = {"lifetime": 40, "monthly": 30, "weekly": 20, "daily": 10}
MESSAGES = [{"role": "user", "content": "Say a few words."}]
BAD, MISSING, FORBIDDEN = (
    errors.BadRequestResponseError,
    errors.NotFoundResponseError,
    errors.ForbiddenResponseError,
)
NO_WORKSPACE = (MISSING, 404, "Workspace not found")
NO_GUARDRAIL = (MISSING, 404, "Guardrail not found")

management = client(MANAGEMENT_KEY)
workspaces, guardrails, api_keys = management.workspaces, management.guardrails, management.api_keys
name, slug = f"sdk python {os.getpid()}", f"sdk-python-{os.getpid()}"


def dump(model):
    return model.model_dump(mode="json")


def by_id(items):
    return {item.id: dump(item) for item in items}


def assert_fields(item, expected):
    for field, value in expected.items():
        assert getattr(item, field) == value, f"{field}: {getattr(item, field)!r} is not {value!r}"


# --- Credits


def account():
    return management.credits.get_credits().data


with operation("credits.get_credits"):
    status, first = plain("POST", "/credits", {"amount_usd": 1, "note": name})
    assert status == 201, first
    before = account()
    assert_money(before.total_credits, exact(first["data"]["total_credits"]), "total_credits")
    plain("POST", "/credits", {"amount_usd": 1, "note": name})
    after = account()
    assert_money(after.total_credits, exact(before.total_credits) + 1, "total_credits")
    assert_money(after.total_usage, exact(before.total_usage), "total_usage")

# --- Workspaces

SETTINGS = {
    "description": "Made by a test",
    "default_text_model": MODEL,
    "default_image_model": None,
    "default_provider_sort": "price",
    "io_logging_api_key_ids": [1, 2],
    "io_logging_sampling_rate": 0.25,
    "is_data_discount_logging_enabled": True,
    "is_observability_broadcast_enabled": True,
    "is_observability_io_logging_enabled": True,
}

with operation("workspaces.create"):
    workspace = workspaces.create(name=name, slug=slug, **SETTINGS).data
    assert_fields(workspace, {"name": name, "slug": slug} | SETTINGS)
    assert UUID.fullmatch(workspace.id)
    assert UUID.fullmatch(workspace.default_guardrail_id)
    assert workspace.created_by is None
    assert workspace.updated_at is None
    assert workspace.include_byok_in_budgets is False
    assert_recent(workspace.created_at, "created_at")
    two = workspaces.create(name=f"{name} two", slug=f"{slug}-two").data
    assert two.description is None
    assert two.io_logging_sampling_rate == 1
    assert two.default_guardrail_id != workspace.default_guardrail_id
    three = workspaces.create(name=f"{name} three", slug=f"{slug}-three").data

with operation("workspaces.create refuses"):
    refused(BAD, 400, "slug", workspaces.create, name=name, slug=slug)
    refused(BAD, 400, "slug", workspaces.create, name=name, slug="No Good")

with operation("workspaces.list"):
    listed, pages = walk(workspaces.list(limit=1))
    assert pages >= len(listed) >= 4
    for each in (workspace, two, three):
        assert by_id(listed)[each.id] == dump(each)
    assert "default" in {each.slug for each in listed}
    assert walk(workspaces.list())[0] == listed
    page = workspaces.list(offset=1, limit=2).result
    assert page.data == listed[1:3]
    assert page.total_count == len(listed)
    assert workspaces.list(offset=None).result.data == listed[:50]

with operation("workspaces.get by id and by slug"):
    assert workspaces.get(id=workspace.id).data == workspace
    assert workspaces.get(id=slug).data == workspace
    for unknown in (NOBODY, "no-such-workspace"):
        refused(*NO_WORKSPACE, workspaces.get, id=unknown)

with operation("workspaces.update"):
    change = {"slug": f"{slug}-2", "description": "Changed", "io_logging_sampling_rate": 0.0001}
    changed = workspaces.update(id=two.slug, **change).data
    assert_recent(changed.updated_at, "updated_at")
    assert dump(changed) == dump(two) | change | {"updated_at": changed.updated_at}
    assert workspaces.update(id=two.id, description=None).data.description is None
    refused(*NO_WORKSPACE, workspaces.get, id=two.slug)
    refused(BAD, 400, "slug", workspaces.update, id=two.id, slug=slug)
    refused(BAD, 400, "No update fields provided", workspaces.update, id=two.id)
    refused(*NO_WORKSPACE, workspaces.update, id=NOBODY, name=name)

# --- Members


def new_member(which):
    status, answer = plain(
        "POST", "/organization/members", {"email": f"{which}-{slug}@example.org", "first_name": "Ann"}
    )
    assert status == 201, answer
    return answer["data"]


ann, bob = new_member("ann"), new_member("bob")
both = [ann["id"], bob["id"]]


def user_ids(members):
    return sorted(member.user_id for member in members)


with operation("organization.list_members"):
    listed, _ = walk(management.organization.list_members(limit=1))
    shown = {"id": ann["id"], "email": ann["email"], "first_name": "Ann", "last_name": None}
    assert by_id(listed)[ann["id"]] == shown | {"role": "org:member"}
    assert bob["id"] in by_id(listed)
    assert walk(management.organization.list_members())[0] == listed

with operation("workspaces.bulk_add_members"):
    added = workspaces.bulk_add_members(id=workspace.id, user_ids=both)
    assert added.added_count == 2
    assert user_ids(added.data) == sorted(both)
    for member in added.data:
        assert_fields(member, {"workspace_id": workspace.id, "role": "member"})
        assert_recent(member.created_at, "created_at")
    again = workspaces.bulk_add_members(id=slug, user_ids=both)
    assert again.added_count == 0, "members were added twice"
    refused(*NO_WORKSPACE, workspaces.bulk_add_members, id=NOBODY, user_ids=both)

with operation("workspaces.list_members"):
    assert user_ids(walk(workspaces.list_members(id=slug, limit=1))[0]) == sorted(both)
    assert set(both) <= set(user_ids(walk(workspaces.list_members(id="default"))[0]))
    refused(*NO_WORKSPACE, workspaces.list_members, id=NOBODY)

with operation("workspaces.bulk_remove_members"):
    for count in (1, 0):
        removed = workspaces.bulk_remove_members(id=workspace.id, user_ids=[bob["id"]])
        assert removed.removed_count == count
    assert user_ids(walk(workspaces.list_members(id=workspace.id))[0]) == [ann["id"]]

# --- Keys of the workspace

with operation("api_keys.create in a workspace, for a member"):
    created = api_keys.create(
        name=name, workspace_id=workspace.id, creator_user_id=ann["id"], limit=50, limit_reset="monthly"
    )
    key_hash = created.data.hash
    assert_fields(created.data, {"workspace_id": workspace.id, "creator_user_id": ann["id"]})

inference = client(created.key)

with operation("api_keys.list in a workspace"):
    (listed,) = api_keys.list(workspace_id=workspace.id).data
    assert dump(listed) == dump(created.data)
    assert api_keys.list(workspace_id=two.id).data == []
    hashes = [key.hash for key in api_keys.list().data]
    assert key_hash not in hashes, "the default workspace lists a key of another"
    refused(BAD, 400, "[Ww]orkspace", api_keys.create, name=name, workspace_id=NOBODY)
    refused(*NO_WORKSPACE, api_keys.list, workspace_id=NOBODY)

with operation("what holds an active key stays"):
    refused(BAD, 400, "active keys", workspaces.delete, id=workspace.id)
    refused(
        BAD, 400, "active keys",
        workspaces.bulk_remove_members, id=workspace.id, user_ids=[ann["id"]],
    )
    refused(FORBIDDEN, 403, "default workspace", workspaces.delete, id="default")

# --- Budgets


def set_budget(interval, limit_usd, **rest):
    return workspaces.set_budget(
        workspace_ref=workspace.id, interval=interval, limit_usd=limit_usd, **rest
    )


with operation("workspaces.list_budgets of a fresh workspace"):
    fresh = workspaces.list_budgets(workspace_ref=slug)
    assert fresh.data == []
    assert fresh.include_byok_in_budgets is False

with operation("workspaces.set_budget for every interval"):
    budgets = []
    for interval, limit in BUDGETS.items():
        answer = set_budget(interval, limit)
        budget = answer.data
        assert UUID.fullmatch(budget.id)
        assert_fields(budget, {"workspace_id": workspace.id, "limit_usd": limit})
        assert budget.reset_interval == (None if interval == "lifetime" else interval)
        assert answer.include_byok_in_budgets is False
        assert_recent(budget.created_at, "created_at")
        budgets.append(budget)
    changed = set_budget("daily", 9.5, include_byok_in_budgets=True)
    assert_fields(
        changed.data, {"id": budget.id, "created_at": budget.created_at, "limit_usd": 9.5}
    )
    assert changed.include_byok_in_budgets is True
    assert workspaces.get(id=slug).data.include_byok_in_budgets is True
    again = set_budget("daily", BUDGETS["daily"])
    assert again.include_byok_in_budgets is True, "an absent flag stays as it is"
    set_budget("daily", BUDGETS["daily"], include_byok_in_budgets=False)

with operation("workspaces.set_budget refuses"):
    error = refused(BAD, 400, "strictly decreasing", set_budget, "weekly", 30)
    assert error.message == (
        "Budget limits must be strictly decreasing as scope narrows: the monthly limit ($30) must be greater "
        "than the weekly limit ($30)."
    )
    refused(BAD, 400, "limit_usd", set_budget, "daily", 0)
    refused(BAD, 400, "interval", set_budget, "yearly", 1)

with operation("workspaces.list_budgets"):
    answer = workspaces.list_budgets(workspace_ref=workspace.id)
    assert [each.id for each in answer.data] == [each.id for each in budgets], "not the broadest first"
    assert answer.include_byok_in_budgets is False
    refused(*NO_WORKSPACE, workspaces.list_budgets, workspace_ref=NOBODY)

with operation("workspaces.get_budget for every interval"):
    for interval, budget in zip(BUDGETS, budgets, strict=True):
        shown = workspaces.get_budget(workspace_ref=slug, interval=interval).data
        assert dump(shown) == dump(budget) | {"updated_at": shown.updated_at}

# --- Guardrails

RULES = {
    "description": "Made by a test",
    "limit_usd": 80,
    "reset_interval": "daily",
    "include_byok_in_budgets": True,
    "allowed_models": [MODEL, "tollgate/other"],
    "ignored_models": ["tollgate/bad"],
    "allowed_providers": None,
    "ignored_providers": ["nobody"],
    "enforce_zdr": False,
    "enforce_zdr_anthropic": False,
    "enforce_zdr_google": True,
    "enforce_zdr_openai": False,
    "enforce_zdr_other": None,
    "enforce_zdr_xai": True,
    "enable_free_model_publication": False,
    "enable_free_model_training": True,
    "enable_paid_model_training": False,
}

with operation("guardrails.create"):
    key_rail = guardrails.create(name=name, workspace_id=workspace.id, **RULES).data
    assert_fields(key_rail, {"name": name, "workspace_id": workspace.id, "updated_at": None} | RULES)
    assert UUID.fullmatch(key_rail.id)
    assert_recent(key_rail.created_at, "created_at")
    member_rail = guardrails.create(name=f"{name} member", workspace_id=workspace.id).data
    assert_fields(member_rail, {"limit_usd": None, "include_byok_in_budgets": False})

with operation("guardrails.create refuses"):
    refused(BAD, 400, "must be set together", guardrails.create, name=name, limit_usd=5)
    refused(BAD, 400, "must be set together", guardrails.create, name=name, reset_interval="daily")
    for pattern in ("a(?=b)", r"(a)\1", "(a+)+"):
        refused(
            BAD, 400, "invalid_regex_pattern",
            guardrails.create, name=name, content_filters=[{"pattern": pattern, "action": "block"}],
        )
    refused(
        BAD, 400, "person-name",
        guardrails.create, name=name, content_filter_builtins=[{"slug": "person-name", "action": "block"}],
    )
    refused(BAD, 400, "Workspace not found", guardrails.create, name=name, workspace_id=NOBODY)

with operation("guardrails.list"):
    listed, pages = walk(guardrails.list(limit=1, workspace_id=workspace.id))
    assert listed == [key_rail, member_rail]
    assert pages == 3
    assert {key_rail.id, member_rail.id} <= set(by_id(walk(guardrails.list())[0]))
    assert walk(guardrails.list(workspace_id=two.id))[0] == []

with operation("guardrails.get"):
    assert guardrails.get(id=key_rail.id).data == key_rail
    for unknown in (NOBODY, workspace.default_guardrail_id):
        refused(*NO_GUARDRAIL, guardrails.get, id=unknown)

with operation("guardrails.update"):
    change = {"limit_usd": 70, "reset_interval": "weekly", "enforce_zdr_xai": True}
    changed = guardrails.update(id=member_rail.id, **change).data
    assert_recent(changed.updated_at, "updated_at")
    assert dump(changed) == dump(member_rail) | change | {"updated_at": changed.updated_at}
    assert guardrails.update(id=member_rail.id, enforce_zdr_xai=None).data.enforce_zdr_xai is None
    without = guardrails.update(id=member_rail.id, limit_usd=None, reset_interval=None).data
    assert_fields(without, {"limit_usd": None, "reset_interval": None})
    guardrails.update(id=member_rail.id, limit_usd=70, reset_interval="weekly")
    refused(
        BAD, 400, "must be set together", guardrails.update, id=member_rail.id, reset_interval=None
    )
    refused(BAD, 400, "No update fields provided", guardrails.update, id=member_rail.id)

with operation("guardrails.create and update with content filters"):
    own = [{"pattern": r"PROJ-\d{4,6}", "action": "redact", "label": "[PROJECT]"}, {"pattern": "x", "action": "flag"}]
    builtins = [
        {"slug": "email", "action": "block"},
        {"slug": "regex-prompt-injection", "action": "redact", "scan_scope": "user_only"},
    ]
    filters = guardrails.create(
        name=f"{name} filters", workspace_id=workspace.id, content_filters=own, content_filter_builtins=builtins
    ).data
    shown = guardrails.get(id=filters.id).data
    assert shown == filters
    assert [(each.pattern, each.action) for each in shown.content_filters] == [
        (each["pattern"], each["action"]) for each in own
    ]
    assert shown.content_filters[0].label == "[PROJECT]"
    assert [(each.slug, each.action, each.label) for each in shown.content_filter_builtins] == [
        ("email", "block", "[EMAIL]"),
        ("regex-prompt-injection", "redact", "[PROMPT_INJECTION]"),
    ]
    assert shown.content_filter_builtins[1].scan_scope == "user_only"
    changed = guardrails.update(id=filters.id, content_filters=None).data
    assert changed.content_filters is None
    assert changed.content_filter_builtins == shown.content_filter_builtins
    assert guardrails.update(id=filters.id, content_filter_builtins=[]).data.content_filter_builtins is None
    assert guardrails.delete(id=filters.id).DELETED is True

with operation("guardrails.update makes the default one of a workspace"):
    default_rail = workspace.default_guardrail_id
    made = guardrails.update(id=default_rail, limit_usd=90, reset_interval="monthly").data
    assert_fields(made, {"id": default_rail, "workspace_id": workspace.id, "limit_usd": 90})
    assert made.name == f"Workspace {workspace.id} Default"
    refused(BAD, 400, "name", guardrails.update, id=default_rail, name="mine")

with operation("guardrails.bulk_assign_keys"):
    for count in (1, 0):
        assigned = guardrails.bulk_assign_keys(id=key_rail.id, key_hashes=[key_hash])
        assert assigned.assigned_count == count
    refused(BAD, 400, "hash", guardrails.bulk_assign_keys, id=key_rail.id, key_hashes=["0" * 64])
    refused(*NO_GUARDRAIL, guardrails.bulk_assign_keys, id=NOBODY, key_hashes=[key_hash])

with operation("guardrails.bulk_assign_members"):
    for count, whom in ((2, both), (0, both[:1])):
        assigned = guardrails.bulk_assign_members(id=member_rail.id, member_user_ids=whom)
        assert assigned.assigned_count == count
    refused(
        BAD, 400, "user_nobody",
        guardrails.bulk_assign_members, id=member_rail.id, member_user_ids=["user_nobody"],
    )

with operation("guardrails.list_guardrail_key_assignments"):
    (assignment,), _ = walk(guardrails.list_guardrail_key_assignments(id=key_rail.id, limit=1))
    assert UUID.fullmatch(assignment.id)
    assert_recent(assignment.created_at, "created_at")
    assert_fields(
        assignment,
        {
            "guardrail_id": key_rail.id,
            "key_hash": key_hash,
            "key_name": name,
            "key_label": created.data.label,
            "assigned_by": None,
        },
    )
    assert walk(guardrails.list_guardrail_key_assignments(id=member_rail.id))[0] == []
    refused(*NO_GUARDRAIL, guardrails.list_guardrail_key_assignments, id=NOBODY)

with operation("guardrails.list_guardrail_member_assignments"):
    listed, _ = walk(guardrails.list_guardrail_member_assignments(id=member_rail.id, limit=1))
    assert user_ids(listed) == sorted(both)
    for assignment in listed:
        assert_fields(assignment, {"guardrail_id": member_rail.id, "assigned_by": None})
        assert assignment.organization_id.startswith("org_")

with operation("guardrails.list_key_assignments"):
    listed, _ = walk(guardrails.list_key_assignments(limit=1))
    assert [each.key_hash for each in listed].count(key_hash) == 1

with operation("guardrails.list_member_assignments"):
    listed, _ = walk(guardrails.list_member_assignments(limit=1))
    assert [each.guardrail_id for each in listed].count(member_rail.id) == 2

with operation("guardrails.bulk_unassign_members"):
    for count in (1, 0):
        taken = guardrails.bulk_unassign_members(id=member_rail.id, member_user_ids=[bob["id"]])
        assert taken.unassigned_count == count

# --- What all of them do to a call


def chat(**request):
    request = {"model": MODEL, "messages": MESSAGES, "max_completion_tokens": 200} | request
    return inference.chat.send(**request)


def current():
    return inference.api_keys.get_current_key_metadata().data


LAYERS = [
    ("workspace_default_member", "monthly", 90, default_rail, None),
    ("workspace_default_key", "monthly", 90, default_rail, None),
    ("member", "weekly", 70, member_rail.id, None),
    ("api_key", "daily", 80, key_rail.id, None),
    *(("workspace", each.reset_interval, each.limit_usd, None, each.id) for each in budgets),
    ("key_limit", "monthly", 50, None, None),
]


def assert_layers(spent):
    key = current()
    assert key.workspace_id == workspace.id
    assert [
        (each.scope, each.reset_interval, each.limit_usd, each.guardrail_id, each.budget_id)
        for each in key.budgets
    ] == LAYERS
    for each in key.budgets:
        assert_money(each.spend_usd, spent, f"{each.scope} spend_usd")
        assert_money(each.remaining_usd, exact(each.limit_usd) - spent, f"{each.scope} remaining_usd")
        assert (each.resets_at is None) == (each.reset_interval is None)
        assert each.resets_at is None or each.resets_at > datetime.now(timezone.utc)
        assert each.include_byok is (each.guardrail_id == key_rail.id)
    assert key.effective_budget == key.budgets[-2], "not the one with the least left"


usage_before = exact(account().total_usage)

with operation("api_keys.get_current_key_metadata shows every layer"):
    assert_layers(0)

with operation("every layer counts a chat.send"):
    spent = exact(chat().usage.cost)
    assert spent > 0
    assert_layers(spent)
    assert_money(account().total_usage, usage_before + spent, "total_usage")

with operation("chat.send with a spent workspace budget"):
    set_budget("daily", float(spent))
    for stream in (False, True):
        error = refused(FORBIDDEN, 403, "^Workspace daily budget of", chat, stream=stream)
        told = re.fullmatch(
            r"Workspace daily budget of \$([\d.]+) exceeded\. Contact your org admin\.", error.message
        )
        assert_money(float(told[1]), spent, "the limit in the message")
        metadata = error.data.error.metadata
        assert metadata["limit_source"] == "openrouter_workspace_budget"
        assert metadata["scope"] == "workspace"
        assert_money(metadata["limit_usd"], spent, "limit_usd")
        assert_money(metadata["spend_usd"], spent, "spend_usd")
        assert datetime.fromisoformat(metadata["resets_at"].replace("Z", "+00:00")) > datetime.now(timezone.utc)
    effective = current().effective_budget
    assert_fields(effective, {"scope": "workspace", "budget_id": budgets[-1].id, "remaining_usd": 0})
    set_budget("daily", BUDGETS["daily"])
    spent += exact(chat(max_completion_tokens=1).usage.cost)

with operation("chat.send where a workspace budget has too little room"):
    set_budget("daily", float(spent + exact(1e-9)))
    error = refused(errors.PaymentRequiredResponseError, 402, ".", chat)
    assert error.data.error.metadata["limit_source"] == "openrouter_workspace_budget"
    set_budget("daily", BUDGETS["daily"])

with operation("chat.send with a spent guardrail budget"):
    for rail, scope in [
        (default_rail, "workspace_default_member"),
        (member_rail.id, "member"),
        (key_rail.id, "api_key"),
    ]:
        before = guardrails.get(id=rail).data
        guardrails.update(id=rail, limit_usd=float(spent))
        error = refused(
            FORBIDDEN, 403, rf"^Guardrail {before.reset_interval} budget of \$[\d.]+ exceeded", chat
        )
        assert error.data.error.metadata["limit_source"] == "openrouter_guardrail_budget"
        assert error.data.error.metadata["scope"] == scope
        guardrails.update(id=rail, limit_usd=before.limit_usd)


def blocked(**rules):
    lists = ("allowed_models", "ignored_models", "allowed_providers", "ignored_providers")
    guardrails.update(id=key_rail.id, **(dict.fromkeys(lists) | rules))
    told = "^No endpoints available matching your guardrail restrictions"
    refused(MISSING, 404, told, chat)
    refused(MISSING, 404, told, chat, stream=True)


with operation("chat.send with a model or provider that a guardrail forbids"):
    blocked(allowed_models=["tollgate/other"])
    blocked(ignored_models=[MODEL])
    blocked(allowed_providers=["nobody"])
    guardrails.update(id=key_rail.id, allowed_models=[MODEL], allowed_providers=None)
    spent += exact(chat(max_completion_tokens=1).usage.cost)

with operation("refusals cost nothing"):
    assert_layers(spent)

with operation("api_keys.update moves a key to another workspace"):
    assert api_keys.update(hash=key_hash, workspace_id=two.id).data.workspace_id == two.id
    assert [each.hash for each in api_keys.list(workspace_id=two.id).data] == [key_hash]
    assert api_keys.list(workspace_id=workspace.id).data == []
    scopes = [each.scope for each in current().budgets]
    assert scopes == ["member", "api_key", "key_limit"], scopes
    refused(BAD, 400, "Workspace not found", api_keys.update, hash=key_hash, workspace_id=NOBODY)
    api_keys.update(hash=key_hash, workspace_id=workspace.id)
    assert_layers(spent)

with operation("a guardrail takes the place of another"):
    assert guardrails.bulk_assign_keys(id=member_rail.id, key_hashes=[key_hash]).assigned_count == 1
    assert walk(guardrails.list_guardrail_key_assignments(id=key_rail.id))[0] == []
    assert [each.limit_usd for each in current().budgets if each.scope == "api_key"] == [70]

with operation("guardrails.bulk_unassign_keys"):
    for count in (1, 0):
        taken = guardrails.bulk_unassign_keys(id=member_rail.id, key_hashes=[key_hash])
        assert taken.unassigned_count == count
    assert "api_key" not in [each.scope for each in current().budgets]

with operation("management keys only"):
    told = (errors.UnauthorizedResponseError, 401, "Invalid management key")
    refused(*told, inference.workspaces.list)
    refused(*told, inference.workspaces.list_budgets, workspace_ref=slug)
    refused(*told, inference.guardrails.list)
    refused(*told, inference.organization.list_members)
    refused(
        FORBIDDEN, 403, "Only management keys can perform this operation", inference.credits.get_credits
    )

# --- The end of all of them

with operation("workspaces.delete_budget for every interval"):
    for interval in BUDGETS:
        for _ in ("there", "gone"):
            assert workspaces.delete_budget(workspace_ref=slug, interval=interval).DELETED is True
        refused(
            MISSING, 404, "Budget not found",
            workspaces.get_budget, workspace_ref=slug, interval=interval,
        )
    assert workspaces.list_budgets(workspace_ref=slug).data == []

with operation("guardrails.delete"):
    assert guardrails.delete(id=member_rail.id).DELETED is True
    refused(*NO_GUARDRAIL, guardrails.delete, id=member_rail.id)
    scopes = [each.scope for each in current().budgets]
    assert scopes == ["workspace_default_member", "workspace_default_key", "key_limit"], scopes

with operation("workspaces.delete"):
    assert api_keys.delete(hash=key_hash).DELETED is True
    for each in (workspace, two, three):
        assert workspaces.delete(id=each.id).DELETED is True
        refused(*NO_WORKSPACE, workspaces.delete, id=each.id)
    refused(*NO_WORKSPACE, workspaces.get, id=slug)
    for rail in (key_rail.id, default_rail):
        refused(*NO_GUARDRAIL, guardrails.get, id=rail)

for user_id in both:
    assert plain("DELETE", f"/organization/members/{user_id}") == (200, {"deleted": True})

finish()
