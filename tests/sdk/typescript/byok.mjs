// Drives a running tollgate with the official TypeScript SDK, unmodified but for its server URL: provider credentials (BYOK).
import assert from "node:assert/strict";
import * as errors from "@openrouter/sdk/models/errors";
import { assertMoney, assertRecent, exact, finish, MANAGEMENT_KEY, MODEL, operation } from "./check.mjs";
import { client, refused, walk } from "./client.mjs";

const NOBODY = "00000000-0000-4000-8000-000000000000";
const SECRET = "sk-upstream-of-a-test-0123456789";
const { byok, apiKeys } = client(MANAGEMENT_KEY);
const name = `sdk typescript ${process.pid}`;
const NONE = [errors.NotFoundResponseError, 404, /Provider credential not found/];

const create = async (request) =>
  (await byok.create({ createBYOKKeyRequest: { provider: "simulated", key: SECRET, ...request } })).data;
const update = async (id, request) => (await byok.update({ id, updateBYOKKeyRequest: request })).data;

const key = await apiKeys.create({ requestBody: { name } });

const credential = await operation("byok.create", async () => {
  const created = await create({ name });
  const defaults = {
    provider: "simulated", name, label: "sk-...6789", disabled: false, isFallback: false, sortOrder: 0,
    allowedApiKeyHashes: null, allowedModels: null, allowedUserIds: null,
  };
  for (const [field, value] of Object.entries(defaults)) assert.deepEqual(created[field], value, field);
  assertRecent(created.createdAt, "created_at");
  assert.ok(!JSON.stringify(created).includes(SECRET));
  return created;
});

const fallback = await operation("byok.create with lists", () =>
  create({ isFallback: true, allowedApiKeyHashes: [key.data.hash], allowedModels: [MODEL] }));

await operation("byok.create refuses", async () => {
  const bad = (request, message) => refused(create(request), errors.BadRequestResponseError, 400, message);
  await bad({ provider: "openai" }, /simulated/);
  await bad({ allowedApiKeyHashes: ["0".repeat(64)] }, /hash/);
  await bad({ workspaceId: NOBODY }, /Workspace not found/);
});

await operation("byok.list", async () => {
  const { items } = await walk(byok.list({ limit: 1 }));
  assert.deepEqual(items, [credential, fallback]);
  assert.deepEqual((await byok.list({ provider: "openai" })).result.data, []);
});

await operation("byok.get", async () => {
  assert.deepEqual((await byok.get({ id: fallback.id })).data, fallback);
  await refused(byok.get({ id: NOBODY }), ...NONE);
});

await operation("chat.send under an own credential", async () => {
  const chatRequest = { model: MODEL, messages: [{ role: "user", content: "Say a few words." }], maxCompletionTokens: 8 };
  const inference = client(key.key);
  const { usage } = await inference.chat.send({ chatRequest });
  assert.equal(usage.isByok, true);
  assert.equal(usage.cost, 0);
  const list = usage.costDetails.upstreamInferenceCost;
  assert.ok(list > 0);
  const { data } = await inference.apiKeys.getCurrentKeyMetadata();
  assertMoney(data.byokUsage, exact(list), "byok_usage");
  assert.equal(data.usage, 0);
});

await operation("byok.update", async () => {
  const changed = await update(fallback.id, { disabled: true, name: "two", allowedModels: null });
  assert.deepEqual(changed, { ...fallback, disabled: true, name: "two", allowedModels: null });
  assert.equal((await update(fallback.id, { key: `${SECRET}-new` })).label, "sk-...-new");
  await refused(update(NOBODY, { disabled: true }), ...NONE);
});

await operation("byok.delete", async () => {
  for (const { id } of [credential, fallback]) {
    assert.equal((await byok.delete({ id })).deleted, true);
    await refused(byok.delete({ id }), ...NONE);
  }
  assert.deepEqual((await walk(byok.list())).items, []);
  await apiKeys.delete({ hash: key.data.hash });
});

finish();
