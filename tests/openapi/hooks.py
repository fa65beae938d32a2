"""What random requests cannot know: the model, the provider, and what is there already."""

import os

import schemathesis

MODEL = os.environ["TOLLGATE_MODEL"]
HASH = os.environ["TOLLGATE_KEY_HASH"]
CREDENTIAL = os.environ["TOLLGATE_CREDENTIAL"]


@schemathesis.hook
def map_body(context, body):
    """Every call names a model that can answer."""
    if isinstance(body, dict) and "messages" in body:
        return {**body, "model": MODEL}
    if isinstance(body, dict) and "provider" in body and len(str(body["provider"])) > 1:
        return {**body, "provider": "simulated"}
    return body


@schemathesis.hook
def map_path_parameters(context, parameters):
    """Something that is there, where the path names one; short names stay, so that some are not."""
    if not parameters:
        return parameters
    author, slug = MODEL.split("/", 1)
    named = CREDENTIAL if "/byok/" in context.operation.path else "default"
    known = {"author": author, "slug": slug, "hash": HASH, "id": named}
    return {name: known.get(name, value) if len(str(value)) > 1 else value for name, value in parameters.items()}
