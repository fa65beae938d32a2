// Drives a running tollgate with the official TypeScript SDK, unmodified but for its server URL.
import assert from "node:assert/strict";
import * as errors from "@openrouter/sdk/models/errors";
import { assertMoney, assertRecent, decimal, exact, finish, MANAGEMENT_KEY, MODEL, operation, unaffordable } from "./check.mjs";
import { client, refused } from "./client.mjs";

const PAGE = 100;
const LIMIT = 0.01;
const messages = [{ role: "user", content: "Say a few words." }];

const management = client(MANAGEMENT_KEY);

async function listAll(includeDisabled) {
  const keys = [];
  for (;;) {
    const { data } = await management.apiKeys.list({ includeDisabled, offset: keys.length });
    assert.ok(data.length <= PAGE);
    keys.push(...data);
    if (data.length < PAGE) return keys;
  }
}

const find = (keys, hash) => keys.find((key) => key.hash === hash);

const counters = ["usage", "usageDaily", "usageWeekly", "usageMonthly"];
const byokCounters = ["byokUsage", "byokUsageDaily", "byokUsageWeekly", "byokUsageMonthly"];

function assertUnused(key) {
  for (const counter of [...counters, ...byokCounters]) assert.equal(key[counter], 0, counter);
}

const name = `sdk typescript ${process.pid}`;

const created = await operation("apiKeys.create", async () => {
  const created = await management.apiKeys.create({
    requestBody: { name, limit: LIMIT, limitReset: "monthly", includeByokInLimit: true },
  });
  const { data, key } = created;
  assert.match(key, /^sk-or-v1-[0-9a-f]{64}$/);
  assert.match(data.hash, /^[0-9a-f]{64}$/);
  assert.equal(data.label, `${key.slice(0, 12)}...${key.slice(-3)}`);
  assert.equal(data.name, name);
  assert.equal(data.disabled, false);
  assert.equal(data.limit, LIMIT);
  assert.equal(data.limitRemaining, LIMIT);
  assert.equal(data.limitReset, "monthly");
  assert.equal(data.includeByokInLimit, true);
  assert.equal(data.updatedAt, null);
  assert.equal(data.expiresAt ?? null, null);
  assert.ok(data.workspaceId);
  assertRecent(data.createdAt, "created_at");
  assertUnused(data);
  return created;
});
const { hash } = created.data;
const inference = client(created.key);

const other = await operation("apiKeys.create with an expiry and no limit", async () => {
  const expiresAt = new Date(Date.now() + 3_600_000);
  const other = await management.apiKeys.create({ requestBody: { name: `${name} other`, expiresAt } });
  assert.equal(other.data.expiresAt.getTime(), expiresAt.getTime());
  assert.equal(other.data.limit, null);
  assert.equal(other.data.limitRemaining, null);
  assert.equal(other.data.limitReset, null);
  assert.equal(other.data.includeByokInLimit, false);
  assert.notEqual(other.key, created.key);
  assert.notEqual(other.data.hash, hash);
  return other;
});

await operation("apiKeys.create refuses a negative limit", () =>
  refused(
    management.apiKeys.create({ requestBody: { name, limit: -1 } }),
    errors.BadRequestResponseError, 400, /./,
  ));

await operation("apiKeys.list", async () => {
  const { data } = await management.apiKeys.list();
  assert.deepEqual(find(data, hash), created.data);
  assert.deepEqual(find(data, other.data.hash), other.data);
});

await operation("apiKeys.list by offset", async () => {
  const all = await listAll(true);
  assert.equal(new Set(all.map((key) => key.hash)).size, all.length, "a key was listed twice");
  const { data: rest } = await management.apiKeys.list({ includeDisabled: true, offset: 1 });
  assert.deepEqual(rest.map((key) => key.hash), all.slice(1, PAGE + 1).map((key) => key.hash));
  const { data: none } = await management.apiKeys.list({ includeDisabled: true, offset: all.length });
  assert.deepEqual(none, []);
});

await operation("apiKeys.list in a workspace", async () => {
  const { data } = await management.apiKeys.list({ workspaceId: created.data.workspaceId });
  assert.ok(find(data, hash));
});

await operation("apiKeys.get", async () => {
  const { data } = await management.apiKeys.get({ hash });
  assert.deepEqual(data, created.data);
});

const update = async (requestBody) => (await management.apiKeys.update({ hash, requestBody })).data;

await operation("apiKeys.update renames", async () => {
  const data = await update({ name: `${name} renamed` });
  assertRecent(data.updatedAt, "updated_at");
  assert.deepEqual(data, { ...created.data, name: `${name} renamed`, updatedAt: data.updatedAt });
});

await operation("apiKeys.update refuses an empty change", () =>
  refused(update({}), errors.BadRequestResponseError, 400, /No update fields provided/));

await operation("apiKeys.update disables", async () => {
  assert.equal((await update({ disabled: true })).disabled, true);
  assert.ok(!find(await listAll(), hash), "a disabled key is listed");
  assert.ok(!find(await listAll(false), hash), "a disabled key is listed");
  assert.equal(find(await listAll(true), hash).disabled, true);
  assert.equal((await management.apiKeys.get({ hash })).data.disabled, true);
});

await operation("chat.send with a disabled key", () =>
  refused(chat(), errors.UnauthorizedResponseError, 401, /User not found/));

await operation("apiKeys.update enables again", async () => {
  assert.equal((await update({ disabled: false })).disabled, false);
  assert.ok(find(await listAll(), hash));
});

await operation("apiKeys.update changes the limit", async () => {
  const changed = await update({ limit: 2.5, limitReset: "weekly", includeByokInLimit: false });
  assert.equal(changed.limit, 2.5);
  assert.equal(changed.limitRemaining, 2.5);
  assert.equal(changed.limitReset, "weekly");
  assert.equal(changed.includeByokInLimit, false);
  assert.equal(changed.name, `${name} renamed`);
});

await operation("apiKeys.update takes the limit away", async () => {
  const changed = await update({ limit: null, limitReset: null });
  assert.equal(changed.limit, null);
  assert.equal(changed.limitRemaining, null);
  assert.equal(changed.limitReset, null);
});

await operation("apiKeys.update sets the limit again", async () => {
  const changed = await update({ limit: LIMIT, limitReset: "monthly" });
  assert.equal(changed.limit, LIMIT);
  assert.equal(changed.limitRemaining, LIMIT);
  assert.equal(changed.limitReset, "monthly");
});

await operation("apiKeys.getCurrentKeyMetadata", async () => {
  const { data } = await inference.apiKeys.getCurrentKeyMetadata();
  assert.equal(data.label, created.data.label);
  assert.equal(data.limit, LIMIT);
  assert.equal(data.limitRemaining, LIMIT);
  assert.equal(data.limitReset, "monthly");
  assert.equal(data.includeByokInLimit, false);
  assert.equal(data.isManagementKey, false);
  assert.equal(data.isProvisioningKey, false);
  assert.equal(data.workspaceId, created.data.workspaceId);
  assert.equal(data.rateLimit.requests, -1);
  assertUnused(data);
});

await operation("apiKeys.getCurrentKeyMetadata of the management key", async () => {
  const { data } = await management.apiKeys.getCurrentKeyMetadata();
  assert.equal(data.isManagementKey, true);
  assert.equal(data.isProvisioningKey, true);
});

const model = await operation("models.list", async () => {
  const found = [];
  let listed = 0;
  for await (const page of await client().models.list()) {
    listed += page.result.data.length;
    found.push(...page.result.data.filter((model) => model.id === MODEL));
    assert.ok(page.result.totalCount >= listed);
  }
  assert.equal(found.length, 1, `${MODEL} is not listed once`);
  const [model] = found;
  assert.ok(exact(Number(model.pricing.prompt)) > 0n);
  assert.ok(exact(Number(model.pricing.completion)) > 0n);
  assert.ok(model.contextLength > 0);
  const { result } = await client().models.list({ limit: 1 });
  assert.equal(result.data.length, 1);
  assert.equal(result.totalCount, listed);
  return { ...model, listed };
});

await operation("models.count", async () => {
  const { data } = await client().models.count();
  assert.equal(data.count, model.listed);
});

function chat(request = {}) {
  return inference.chat.send({ chatRequest: { model: MODEL, messages, maxCompletionTokens: 200, ...request } });
}

function assertUsage(usage) {
  assert.ok(usage, "no usage");
  assert.ok(usage.promptTokens > 0);
  assert.ok(usage.completionTokens > 0);
  assert.equal(usage.totalTokens, usage.promptTokens + usage.completionTokens);
  assert.equal(usage.isByok, false);
  const cost = exact(usage.cost);
  assert.ok(cost > 0n, "a priced call cost nothing");
  const { upstreamInferencePromptCost: prompt, upstreamInferenceCompletionsCost: completion } = usage.costDetails;
  assert.ok(exact(prompt) + exact(completion) >= cost);
  return cost;
}

const whole = await operation("chat.send", async () => {
  const result = await chat();
  assert.match(result.id, /^gen-\d+-[0-9A-Za-z]{20}$/);
  assert.equal(result.object, "chat.completion");
  assert.equal(result.model, MODEL);
  assert.equal(result.choices.length, 1);
  assert.equal(result.choices[0].message.role, "assistant");
  assert.ok(result.choices[0].message.content);
  assert.equal(result.choices[0].finishReason, "stop");
  return { id: result.id, usage: result.usage, cost: assertUsage(result.usage) };
});

const streamed = await operation("chat.send streamed", async () => {
  const ids = new Set();
  const usages = [];
  let content = "";
  let finishReason = null;
  for await (const chunk of await chat({ stream: true })) {
    assert.equal(chunk.error, undefined);
    assert.equal(chunk.object, "chat.completion.chunk");
    assert.equal(chunk.model, MODEL);
    assert.equal(usages.length, 0, "a chunk after the usage");
    ids.add(chunk.id);
    for (const choice of chunk.choices) {
      content += choice.delta.content ?? "";
      finishReason = choice.finishReason ?? finishReason;
    }
    if (chunk.usage) usages.push(chunk.usage);
  }
  assert.ok(content.length > 0, "no content");
  assert.equal(finishReason, "stop");
  assert.equal(ids.size, 1);
  assert.equal(usages.length, 1, "not exactly one chunk with usage");
  const [id] = ids;
  assert.match(id, /^gen-\d+-[0-9A-Za-z]{20}$/);
  assert.notEqual(id, whole.id);
  return { id, usage: usages[0], cost: assertUsage(usages[0]) };
});

const spent = whole.cost + streamed.cost;

async function assertSpent() {
  const current = (await inference.apiKeys.getCurrentKeyMetadata()).data;
  const managed = (await management.apiKeys.get({ hash })).data;
  for (const key of [current, managed]) {
    for (const counter of counters) assertMoney(key[counter], spent, counter);
    for (const counter of byokCounters) assert.equal(key[counter], 0, counter);
  }
  return [current, managed];
}

await operation("usage is the sum of the costs", async () => {
  for (const key of await assertSpent()) assertMoney(key.limitRemaining, exact(LIMIT) - spent, "limit_remaining");
});

await operation("generations.getGeneration", async () => {
  for (const [generation, isStreamed] of [[whole, false], [streamed, true]]) {
    const { data } = await inference.generations.getGeneration({ id: generation.id });
    assert.equal(data.id, generation.id);
    assert.equal(data.model, MODEL);
    assert.equal(data.streamed, isStreamed);
    assert.equal(data.isByok, false);
    assert.equal(data.finishReason, "stop");
    assert.equal(data.nativeTokensPrompt, generation.usage.promptTokens);
    assert.equal(data.nativeTokensCompletion, generation.usage.completionTokens);
    assertMoney(data.totalCost, generation.cost, "total_cost");
    assertMoney(data.usage, generation.cost, "usage");
    assertRecent(data.createdAt, "created_at");
  }
});

await operation("generations.getGeneration of an unknown id", () =>
  refused(
    inference.generations.getGeneration({ id: "gen-1700000000-aaaaaaaaaaaaaaaaaaaa" }),
    errors.NotFoundResponseError, 404, /./,
  ));

await operation("chat.send that cannot be afforded", async () => {
  const { room, maxTokens } = unaffordable(model.pricing, model.topProvider.maxCompletionTokens);
  await update({ limit: decimal(spent + room) });
  const error = await refused(
    chat({ maxCompletionTokens: maxTokens }),
    errors.PaymentRequiredResponseError, 402, /requires more credits, or fewer max_tokens/,
  );
  const [, wanted, affordable] = /up to (\d+) tokens, but can only afford (\d+)/.exec(error.message);
  assert.equal(Number(wanted), maxTokens);
  assert.ok(Number(affordable) < maxTokens);
  await refused(
    chat({ maxCompletionTokens: maxTokens, stream: true }),
    errors.PaymentRequiredResponseError, 402, /requires more credits, or fewer max_tokens/,
  );
});

await operation("chat.send with a spent limit", async () => {
  const changed = await update({ limit: decimal(spent) });
  assert.equal(changed.limitRemaining, 0);
  await refused(chat(), errors.ForbiddenResponseError, 403, /^Key limit exceeded \(monthly limit\)/);
  await refused(chat({ stream: true }), errors.ForbiddenResponseError, 403, /^Key limit exceeded \(monthly limit\)/);
  await update({ limitReset: null });
  await refused(chat(), errors.ForbiddenResponseError, 403, /^Key limit exceeded \(total limit\)/);
});

await operation("refusals cost nothing", assertSpent);

await operation("chat.send with an unknown model", async () => {
  await update({ limit: LIMIT });
  const error = await chat({ model: "nobody/nothing" }).then(() => assert.fail("answered"), (error) => error);
  const typed = error instanceof errors.BadRequestResponseError || error instanceof errors.NotFoundResponseError;
  assert.ok(typed, `${error.name}: ${error.message}`);
  assert.match(error.message, /nobody\/nothing/);
});

await operation("credentials are kept apart", async () => {
  await refused(inference.apiKeys.list(), errors.UnauthorizedResponseError, 401, /Invalid management key/);
  await refused(
    management.chat.send({ chatRequest: { model: MODEL, messages } }),
    errors.UnauthorizedResponseError, 401, /User not found/,
  );
  await refused(
    client().apiKeys.getCurrentKeyMetadata(),
    errors.UnauthorizedResponseError, 401, /Missing Authentication header/,
  );
});

await operation("apiKeys.delete", async () => {
  for (const key of [created, other]) {
    const result = await management.apiKeys.delete({ hash: key.data.hash });
    assert.equal(result.deleted, true);
  }
});

await operation("apiKeys.get of a deleted key", async () => {
  await refused(management.apiKeys.get({ hash }), errors.NotFoundResponseError, 404, /API key not found/);
  await refused(update({ name }), errors.NotFoundResponseError, 404, /API key not found/);
  await refused(management.apiKeys.delete({ hash }), errors.NotFoundResponseError, 404, /API key not found/);
  assert.ok(!find(await listAll(true), hash), "a deleted key is listed");
});

await operation("use of a deleted key", async () => {
  await refused(chat(), errors.UnauthorizedResponseError, 401, /User not found/);
  await refused(chat({ stream: true }), errors.UnauthorizedResponseError, 401, /User not found/);
  await refused(inference.apiKeys.getCurrentKeyMetadata(), errors.UnauthorizedResponseError, 401, /User not found/);
});

finish();
