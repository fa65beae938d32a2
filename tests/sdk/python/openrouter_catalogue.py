"""Drives a running tollgate with the official OpenRouter SDK, unmodified but for its server URL.

Models, endpoints, providers and activity.
"""

from datetime import datetime, timedelta, timezone

from check import MANAGEMENT_KEY, MODEL, finish, operation
from client import client, refused
from openrouter import errors

management = client(MANAGEMENT_KEY)
author, slug = MODEL.split("/")

with operation("models.get"):
    assert management.models.get(author=author, slug=slug).data.id == MODEL
    missing = (errors.NotFoundResponseError, 404, "Model not found")
    refused(*missing, management.models.get, author=author, slug="no-such-model")

with operation("models.list_for_user"):
    page, ids = management.models.list_for_user(security={"bearer": MANAGEMENT_KEY}, limit=1), []
    while page is not None:
        ids += [model.id for model in page.result.data]
        page = page.next()
    assert MODEL in ids, ids

with operation("endpoints.list"):
    found = management.endpoints.list(author=author, slug=slug).data
    assert found.id == MODEL
    assert found.endpoints and all(endpoint.provider_name for endpoint in found.endpoints)

with operation("providers.list"):
    slugs = {provider.slug for provider in management.providers.list().data}
    assert all(endpoint.provider_name in slugs for endpoint in found.endpoints), slugs

with operation("analytics.get_user_activity"):
    # Completed days only, and today is not over.
    assert isinstance(management.analytics.get_user_activity().data, list)
    tomorrow = (datetime.now(timezone.utc) + timedelta(days=1)).strftime("%Y-%m-%d")
    late = (errors.BadRequestResponseError, 400, "Date must be within the last 30 completed UTC days")
    refused(*late, management.analytics.get_user_activity, request={"date": tomorrow})

finish()
