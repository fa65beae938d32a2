// Drives a running tollgate with the official OpenAI client for TypeScript, unmodified but for its base URL.
// Keys are made and changed through its door for undocumented paths, as it knows nothing about them.
import assert from "node:assert/strict";
import OpenAI from "openai";
import { assertMoney, BASE_URL, decimal, exact, finish, MANAGEMENT_KEY, MODEL, operation, unaffordable } from "./check.mjs";

const messages = [{ role: "user", content: "Say a few words." }];

const management = new OpenAI({ baseURL: BASE_URL, apiKey: MANAGEMENT_KEY });
const created = await management.post("/keys", { body: { name: `openai typescript ${process.pid}`, limit: 0.01 } });
const { hash } = created.data;
const setLimit = (limit) => management.patch(`/keys/${hash}`, { body: { limit } });

const openai = new OpenAI({ baseURL: BASE_URL, apiKey: created.key });

async function refused(promise, kind, status, message) {
  const error = await promise.then(
    () => assert.fail(`answered, instead of ${status}`),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error.name} instead of ${kind.name}: ${error.message}`);
  assert.equal(error.status, status);
  assert.equal(error.code, status);
  assert.equal(error.error.code, status);
  assert.match(error.error.message, message);
  return error;
}

const chat = (request = {}) =>
  openai.chat.completions.create({ model: MODEL, messages, max_completion_tokens: 200, ...request });

function assertUsage(usage) {
  assert.ok(usage, "no usage");
  assert.ok(usage.prompt_tokens > 0);
  assert.ok(usage.completion_tokens > 0);
  assert.equal(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens);
  const cost = exact(usage.cost);
  assert.ok(cost > 0n, "a priced call cost nothing");
  return cost;
}

let spent = 0n;

const model = await operation("models.list", async () => {
  const ids = [];
  let found;
  for await (const model of openai.models.list()) {
    ids.push(model.id);
    if (model.id === MODEL) found = model;
  }
  assert.equal(new Set(ids).size, ids.length, "a model was listed twice");
  assert.ok(found, `${MODEL} is not listed`);
  return found;
});

await operation("chat.completions.create", async () => {
  const { data, response } = await chat().withResponse();
  assert.match(data.id, /^gen-\d+-[0-9A-Za-z]{20}$/);
  assert.equal(response.headers.get("x-generation-id"), data.id);
  assert.equal(data.object, "chat.completion");
  assert.equal(data.model, MODEL);
  assert.equal(data.choices[0].message.role, "assistant");
  assert.ok(data.choices[0].message.content);
  assert.equal(data.choices[0].finish_reason, "stop");
  spent += assertUsage(data.usage);
});

for (const [name, streamOptions] of [
  ["without stream_options", undefined],
  ["with include_usage", { include_usage: true }],
  ["with include_usage false", { include_usage: false }],
]) {
  await operation(`chat.completions.create streamed ${name}`, async () => {
    const { data: stream, response } = await chat({ stream: true, stream_options: streamOptions }).withResponse();
    assert.match(response.headers.get("content-type"), /^text\/event-stream/);
    const usages = [];
    let content = "";
    let finishReason = null;
    for await (const chunk of stream) {
      assert.equal(chunk.id, response.headers.get("x-generation-id"));
      assert.equal(usages.length, 0, "a chunk after the usage");
      content += chunk.choices[0]?.delta.content ?? "";
      finishReason = chunk.choices[0]?.finish_reason ?? finishReason;
      if (chunk.usage) usages.push(chunk.usage);
    }
    assert.ok(content.length > 0, "no content");
    assert.equal(finishReason, "stop");
    assert.equal(usages.length, 1, "not exactly one chunk with usage");
    spent += assertUsage(usages[0]);
  });
}

await operation("chat.completions.stream", async () => {
  const stream = openai.chat.completions.stream({ model: MODEL, messages, max_completion_tokens: 200 });
  const final = await stream.finalChatCompletion();
  assert.ok(final.choices[0].message.content);
  assert.equal(final.choices[0].finish_reason, "stop");
  spent += assertUsage(final.usage);
});

const usage = async () => (await openai.get("/key")).data.usage;

await operation("usage is the sum of the costs", async () => assertMoney(await usage(), spent, "usage"));

await operation("402 when max_tokens cannot be afforded", async () => {
  const { room, maxTokens } = unaffordable(model.pricing, model.top_provider.max_completion_tokens);
  await setLimit(decimal(spent + room));
  await refused(chat({ max_completion_tokens: maxTokens }), OpenAI.APIError, 402, /requires more credits, or fewer max_tokens/);
});

await operation("403 PermissionDeniedError with a spent limit", async () => {
  await setLimit(decimal(spent));
  await refused(chat(), OpenAI.PermissionDeniedError, 403, /^Key limit exceeded \(total limit\)/);
  await refused(chat({ stream: true }), OpenAI.PermissionDeniedError, 403, /^Key limit exceeded \(total limit\)/);
});

await operation("refusals cost nothing", async () => assertMoney(await usage(), spent, "usage"));

await operation("an unknown model", async () => {
  await setLimit(null);
  const error = await chat({ model: "nobody/nothing" }).then(() => assert.fail("answered"), (error) => error);
  assert.ok(error instanceof OpenAI.BadRequestError || error instanceof OpenAI.NotFoundError, String(error));
  assert.match(error.message, /nobody\/nothing/);
});

await operation("400 BadRequestError for max_tokens 0", () =>
  refused(chat({ max_completion_tokens: 0 }), OpenAI.BadRequestError, 400, /max_completion_tokens|max_tokens/));

await operation("401 AuthenticationError", async () => {
  const stranger = new OpenAI({ baseURL: BASE_URL, apiKey: `sk-or-v1-${"0".repeat(64)}` });
  await refused(stranger.chat.completions.create({ model: MODEL, messages }), OpenAI.AuthenticationError, 401, /User not found/);
  await management.delete(`/keys/${hash}`);
  await refused(chat(), OpenAI.AuthenticationError, 401, /User not found/);
});

finish();
