"""Lets an app get a key for a code (OAuth PKCE) with the official Python SDK, unmodified but for its server URL."""

import base64
import hashlib
import re
import secrets
from datetime import datetime, timedelta, timezone

from check import MANAGEMENT_KEY, assert_recent, finish, operation
from client import client, refused
from openrouter import errors

CALLBACK = "https://app.example.org/back?state=1"
management = client(MANAGEMENT_KEY)
# An app has no key before it exchanged a code for one.
app = client()

verifier = secrets.token_urlsafe(32)
challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()


def create(**request):
    request = {"callback_url": CALLBACK, "code_challenge": challenge} | request
    return management.o_auth.create_auth_code(**request).data


exchange = app.o_auth.exchange_auth_code_for_api_key
expires_at = (datetime.now(timezone.utc) + timedelta(hours=1)).replace(microsecond=123_000)

with operation("o_auth.create_auth_code"):
    made = create(
        code_challenge_method="S256",
        expires_at=expires_at,
        key_label="sdk python app",
        limit=0.5,
        usage_limit_type="weekly",
    )
    assert made.id
    assert isinstance(made.app_id, int)
    assert_recent(made.created_at, "created_at")
    assert create().app_id == made.app_id, "it is the same app"

with operation("o_auth.exchange_auth_code_for_api_key refuses the wrong verifier and method"):
    invalid = (errors.ForbiddenResponseError, 403, "Invalid code or code_verifier")
    refused(*invalid, exchange, code=made.id, code_verifier="guess")
    refused(
        errors.BadRequestResponseError, 400, "Invalid code_challenge_method",
        exchange, code=made.id, code_verifier=verifier, code_challenge_method="plain",
    )

with operation("o_auth.exchange_auth_code_for_api_key"):
    exchanged = exchange(code=made.id, code_verifier=verifier, code_challenge_method="S256")
    assert re.fullmatch(r"sk-or-v1-[0-9a-f]{64}", exchanged.key)
    assert exchanged.user_id is None
    inference = client(exchanged.key)
    current = inference.api_keys.get_current_key_metadata().data
    assert (current.limit, current.limit_reset) == (0.5, "weekly")
    assert current.expires_at == expires_at
    refused(
        errors.ForbiddenResponseError, 403, "Only management keys can perform this operation",
        inference.o_auth.create_auth_code, callback_url=CALLBACK, code_challenge=challenge,
    )

with operation("o_auth.exchange_auth_code_for_api_key refuses a used code"):
    refused(*invalid, exchange, code=made.id, code_verifier=verifier)

with operation("o_auth.create_auth_code refuses what is not safe"):
    bad_request = errors.BadRequestResponseError
    refused(bad_request, 400, "callback_url", create, callback_url="http://app.example.org")
    refused(bad_request, 400, "code_challenge", create, code_challenge=None)

with operation("a plain challenge"):
    plain = create(code_challenge="my verifier", code_challenge_method="plain")
    by_host = exchange(code=plain.id, code_verifier="my verifier")

with operation("the keys are like any other"):
    for key, name in [(exchanged.key, "sdk python app"), (by_host.key, "app.example.org")]:
        key_hash = hashlib.sha256(key.encode()).hexdigest()
        assert management.api_keys.get(hash=key_hash).data.name == name
        assert management.api_keys.delete(hash=key_hash).DELETED is True

finish()
