// Drives a running tollgate with the official TypeScript SDK, unmodified but for its server URL: workspaces, members,
// budgets, guardrails and credits.
import assert from "node:assert/strict";
import * as errors from "@openrouter/sdk/models/errors";
import { assertMoney, assertRecent, decimal, exact, finish, MANAGEMENT_KEY, MODEL, operation, plain } from "./check.mjs";
import { client, refused, walk } from "./client.mjs";

const NOBODY = "00000000-0000-4000-8000-000000000000";
const UUID = /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/;
/** The broadest first: the order in which they are listed and enforced. */
const BUDGETS = { lifetime: 40, monthly: 30, weekly: 20, daily: 10 };
const messages = [{ role: "user", content: "Say a few words." }];
const { workspaces, guardrails, credits, organization, apiKeys } = client(MANAGEMENT_KEY);
const name = `sdk typescript ${process.pid}`;
const slug = `sdk-typescript-${process.pid}`;

// --- Credits

const account = async () => (await credits.getCredits()).data;

await operation("credits.getCredits", async () => {
  const first = await plain("POST", "/credits", { body: { amount_usd: 1, note: name } });
  assert.equal(first.status, 201);
  const before = await account();
  assertMoney(before.totalCredits, exact(first.answer.data.total_credits), "total_credits");
  await plain("POST", "/credits", { body: { amount_usd: 1, note: name } });
  const after = await account();
  assertMoney(after.totalCredits, exact(before.totalCredits) + exact(1), "total_credits");
  assertMoney(after.totalUsage, exact(before.totalUsage), "total_usage");
});

// --- Workspaces

const createWorkspace = async (request) => (await workspaces.create({ createWorkspaceRequest: request })).data;
const getWorkspace = async (id) => (await workspaces.get({ id })).data;

const [workspace, ...others] = await operation("workspaces.create", async () => {
  const settings = {
    description: "Made by a test",
    defaultTextModel: MODEL,
    defaultImageModel: null,
    defaultProviderSort: "price",
    ioLoggingApiKeyIds: [1, 2],
    ioLoggingSamplingRate: 0.25,
    isDataDiscountLoggingEnabled: true,
    isObservabilityBroadcastEnabled: true,
    isObservabilityIoLoggingEnabled: true,
  };
  const created = await createWorkspace({ name, slug, ...settings });
  for (const [field, value] of Object.entries({ name, slug, ...settings })) assert.deepEqual(created[field], value, field);
  assert.match(created.id, UUID);
  assert.match(created.defaultGuardrailId, UUID);
  assert.equal(created.createdBy, null);
  assert.equal(created.updatedAt, null);
  assert.equal(created.includeByokInBudgets, false);
  assertRecent(created.createdAt, "created_at");
  const plainest = await createWorkspace({ name: `${name} two`, slug: `${slug}-two` });
  assert.equal(plainest.description, null);
  assert.equal(plainest.ioLoggingSamplingRate, 1);
  assert.notEqual(plainest.defaultGuardrailId, created.defaultGuardrailId);
  return [created, plainest, await createWorkspace({ name: `${name} three`, slug: `${slug}-three` })];
});

await operation("workspaces.create refuses", async () => {
  const create = (request) => refused(createWorkspace(request), errors.BadRequestResponseError, 400, /slug/);
  await create({ name, slug });
  await create({ name, slug: "No Good" });
});

await operation("workspaces.list", async () => {
  const { items, pages } = await walk(workspaces.list({ limit: 1 }));
  assert.ok(pages >= items.length && items.length >= 4);
  for (const one of [workspace, ...others]) assert.deepEqual(items.find(({ id }) => id === one.id), one);
  assert.ok(items.some((one) => one.slug === "default"));
  assert.deepEqual((await walk(workspaces.list())).items, items);
  const { result } = await workspaces.list({ offset: 1, limit: 2 });
  assert.deepEqual(result, { data: items.slice(1, 3), totalCount: items.length });
  assert.deepEqual((await workspaces.list({ offset: null })).result.data, items.slice(0, 50));
});

await operation("workspaces.get by id and by slug", async () => {
  assert.deepEqual(await getWorkspace(workspace.id), workspace);
  assert.deepEqual(await getWorkspace(slug), workspace);
  for (const id of [NOBODY, "no-such-workspace"]) {
    await refused(getWorkspace(id), errors.NotFoundResponseError, 404, /Workspace not found/);
  }
});

await operation("workspaces.update", async () => {
  const update = async (id, updateWorkspaceRequest) => (await workspaces.update({ id, updateWorkspaceRequest })).data;
  const [two] = others;
  const changed = await update(two.slug, { slug: `${slug}-2`, description: "Changed", ioLoggingSamplingRate: 0.0001 });
  assertRecent(changed.updatedAt, "updated_at");
  const { updatedAt } = changed;
  assert.deepEqual(changed, { ...two, slug: `${slug}-2`, description: "Changed", ioLoggingSamplingRate: 0.0001, updatedAt });
  assert.equal((await update(two.id, { description: null })).description, null);
  await refused(getWorkspace(two.slug), errors.NotFoundResponseError, 404, /Workspace not found/);
  await refused(update(two.id, { slug }), errors.BadRequestResponseError, 400, /slug/);
  await refused(update(two.id, {}), errors.BadRequestResponseError, 400, /No update fields provided/);
  await refused(update(NOBODY, { name }), errors.NotFoundResponseError, 404, /Workspace not found/);
});

// --- Members

const newMember = async (which) => {
  const body = { email: `${which}-${slug}@example.org`, first_name: "Ann" };
  const { status, answer } = await plain("POST", "/organization/members", { body });
  assert.equal(status, 201, JSON.stringify(answer));
  return answer.data;
};
const [ann, bob] = [await newMember("ann"), await newMember("bob")];

await operation("organization.listMembers", async () => {
  const { items } = await walk(organization.listMembers({ limit: 1 }));
  const { id, email } = ann;
  const shown = { id, email, firstName: "Ann", lastName: null, role: "org:member" };
  assert.deepEqual(items.find((member) => member.id === id), shown);
  assert.ok(items.some((member) => member.id === bob.id));
  assert.deepEqual((await walk(organization.listMembers())).items, items);
});

const both = { userIds: [ann.id, bob.id] };

await operation("workspaces.bulkAddMembers", async () => {
  const add = (id) => workspaces.bulkAddMembers({ id, bulkAddWorkspaceMembersRequest: both });
  const added = await add(workspace.id);
  assert.equal(added.addedCount, 2);
  assert.deepEqual(added.data.map((member) => member.userId).sort(), [...both.userIds].sort());
  for (const member of added.data) {
    assert.equal(member.workspaceId, workspace.id);
    assert.equal(member.role, "member");
    assertRecent(member.createdAt, "created_at");
  }
  assert.equal((await add(slug)).addedCount, 0, "members were added twice");
  await refused(add(NOBODY), errors.NotFoundResponseError, 404, /Workspace not found/);
});

await operation("workspaces.listMembers", async () => {
  const { items } = await walk(workspaces.listMembers({ id: slug, limit: 1 }));
  assert.deepEqual(items.map((member) => member.userId).sort(), [...both.userIds].sort());
  const everybody = await walk(workspaces.listMembers({ id: "default" }));
  for (const id of both.userIds) assert.ok(everybody.items.some((member) => member.userId === id));
  await refused(workspaces.listMembers({ id: NOBODY }), errors.NotFoundResponseError, 404, /Workspace not found/);
});

const removeMembers = (id, ...userIds) => workspaces.bulkRemoveMembers({ id, bulkRemoveWorkspaceMembersRequest: { userIds } });

await operation("workspaces.bulkRemoveMembers", async () => {
  assert.equal((await removeMembers(workspace.id, bob.id)).removedCount, 1);
  assert.equal((await removeMembers(workspace.id, bob.id)).removedCount, 0);
  const { items } = await walk(workspaces.listMembers({ id: workspace.id }));
  assert.deepEqual(items.map((member) => member.userId), [ann.id]);
});

// --- Keys of the workspace

const created = await operation("apiKeys.create in a workspace, for a member", async () => {
  const requestBody = { name, workspaceId: workspace.id, creatorUserId: ann.id, limit: 50, limitReset: "monthly" };
  const created = await apiKeys.create({ requestBody });
  assert.equal(created.data.workspaceId, workspace.id);
  assert.equal(created.data.creatorUserId, ann.id);
  return created;
});
const { hash } = created.data;
const inference = client(created.key);

await operation("apiKeys.list in a workspace", async () => {
  assert.deepEqual((await apiKeys.list({ workspaceId: workspace.id })).data, [created.data]);
  assert.deepEqual((await apiKeys.list({ workspaceId: others[0].id })).data, []);
  assert.ok(!(await apiKeys.list()).data.some((key) => key.hash === hash), "the default workspace lists a key of another");
  await refused(
    apiKeys.create({ requestBody: { name, workspaceId: NOBODY } }),
    errors.BadRequestResponseError, 400, /[Ww]orkspace/,
  );
});

await operation("what holds an active key stays", async () => {
  await refused(workspaces.delete({ id: workspace.id }), errors.BadRequestResponseError, 400, /active keys/);
  await refused(removeMembers(workspace.id, ann.id), errors.BadRequestResponseError, 400, /active keys/);
  await refused(workspaces.delete({ id: "default" }), errors.ForbiddenResponseError, 403, /default workspace/);
});

// --- Budgets

const setBudget = (interval, limitUsd, rest = {}) =>
  workspaces.setBudget({ workspaceRef: workspace.id, interval, upsertWorkspaceBudgetRequest: { limitUsd, ...rest } });
const deleteBudget = (interval) => workspaces.deleteBudget({ workspaceRef: slug, interval });

await operation("workspaces.listBudgets of a fresh workspace", async () => {
  assert.deepEqual(await workspaces.listBudgets({ workspaceRef: slug }), { data: [], includeByokInBudgets: false });
});

const budgets = await operation("workspaces.setBudget for every interval", async () => {
  const made = [];
  for (const [interval, limit] of Object.entries(BUDGETS)) {
    const { data, includeByokInBudgets } = await setBudget(interval, limit);
    assert.match(data.id, UUID);
    assert.equal(data.workspaceId, workspace.id);
    assert.equal(data.limitUsd, limit);
    assert.equal(data.resetInterval, interval === "lifetime" ? null : interval);
    assert.equal(includeByokInBudgets, false);
    assertRecent(data.createdAt, "created_at");
    made.push(data);
  }
  const changed = await setBudget("daily", 9.5, { includeByokInBudgets: true });
  const { id, createdAt } = made.at(-1);
  assert.deepEqual([changed.data.id, changed.data.createdAt, changed.data.limitUsd], [id, createdAt, 9.5]);
  assert.equal(changed.includeByokInBudgets, true);
  assert.equal((await getWorkspace(slug)).includeByokInBudgets, true);
  const again = await setBudget("daily", BUDGETS.daily);
  assert.equal(again.includeByokInBudgets, true, "an absent flag stays as it is");
  await setBudget("daily", BUDGETS.daily, { includeByokInBudgets: false });
  return made;
});

await operation("workspaces.setBudget refuses", async () => {
  const told =
    "Budget limits must be strictly decreasing as scope narrows: the monthly limit ($30) must be greater than the weekly limit ($30).";
  const error = await refused(setBudget("weekly", 30), errors.BadRequestResponseError, 400, /strictly decreasing/);
  assert.equal(error.message, told);
  await refused(setBudget("daily", 0), errors.BadRequestResponseError, 400, /limit_usd/);
  await refused(setBudget("yearly", 1), errors.BadRequestResponseError, 400, /interval/);
});

await operation("workspaces.listBudgets", async () => {
  const listed = await workspaces.listBudgets({ workspaceRef: workspace.id });
  assert.deepEqual(listed.data.map(({ id }) => id), budgets.map(({ id }) => id), "not the broadest first");
  assert.equal(listed.includeByokInBudgets, false);
  await refused(workspaces.listBudgets({ workspaceRef: NOBODY }), errors.NotFoundResponseError, 404, /Workspace not found/);
});

await operation("workspaces.getBudget for every interval", async () => {
  for (const [index, interval] of Object.keys(BUDGETS).entries()) {
    const { data } = await workspaces.getBudget({ workspaceRef: slug, interval });
    assert.deepEqual(data, { ...budgets[index], updatedAt: data.updatedAt });
  }
});

// --- Guardrails

const createGuardrail = async (request) => (await guardrails.create({ createGuardrailRequest: request })).data;
const updateGuardrail = async (id, request) => (await guardrails.update({ id, updateGuardrailRequest: request })).data;

const [keyRail, memberRail] = await operation("guardrails.create", async () => {
  const rules = {
    description: "Made by a test",
    limitUsd: 80,
    resetInterval: "daily",
    includeByokInBudgets: true,
    allowedModels: [MODEL, "tollgate/other"],
    ignoredModels: ["tollgate/bad"],
    allowedProviders: null,
    ignoredProviders: ["nobody"],
    enforceZdr: false,
    enforceZdrAnthropic: false,
    enforceZdrGoogle: true,
    enforceZdrOpenai: false,
    enforceZdrOther: null,
    enforceZdrXai: true,
    enableFreeModelPublication: false,
    enableFreeModelTraining: true,
    enablePaidModelTraining: false,
  };
  const made = await createGuardrail({ name, workspaceId: workspace.id, ...rules });
  for (const [field, value] of Object.entries({ name, ...rules })) assert.deepEqual(made[field], value, field);
  assert.match(made.id, UUID);
  assert.equal(made.workspaceId, workspace.id);
  assert.equal(made.updatedAt, null);
  assertRecent(made.createdAt, "created_at");
  const plainest = await createGuardrail({ name: `${name} member`, workspaceId: workspace.id });
  assert.equal(plainest.limitUsd, null);
  assert.equal(plainest.includeByokInBudgets, false);
  return [made, plainest];
});

await operation("guardrails.create refuses", async () => {
  const create = (request, message) => refused(createGuardrail(request), errors.BadRequestResponseError, 400, message);
  await create({ name, limitUsd: 5 }, /must be set together/);
  await create({ name, resetInterval: "daily" }, /must be set together/);
  for (const pattern of ["a(?=b)", "(a)\\1", "(a+)+"]) {
    await create({ name, contentFilters: [{ pattern, action: "block" }] }, /invalid_regex_pattern/);
  }
  await create({ name, contentFilterBuiltins: [{ slug: "person-name", action: "block" }] }, /person-name/);
  await create({ name, workspaceId: NOBODY }, /Workspace not found/);
});

await operation("guardrails.list", async () => {
  const { items, pages } = await walk(guardrails.list({ limit: 1, workspaceId: workspace.id }));
  assert.deepEqual(items, [keyRail, memberRail]);
  assert.equal(pages, 3);
  const everywhere = await walk(guardrails.list());
  for (const one of items) assert.ok(everywhere.items.some(({ id }) => id === one.id));
  assert.deepEqual((await walk(guardrails.list({ workspaceId: others[0].id }))).items, []);
});

await operation("guardrails.get", async () => {
  assert.deepEqual((await guardrails.get({ id: keyRail.id })).data, keyRail);
  await refused(guardrails.get({ id: NOBODY }), errors.NotFoundResponseError, 404, /Guardrail not found/);
  await refused(guardrails.get({ id: workspace.defaultGuardrailId }), errors.NotFoundResponseError, 404, /Guardrail not found/);
});

await operation("guardrails.update", async () => {
  const changed = await updateGuardrail(memberRail.id, { limitUsd: 70, resetInterval: "weekly", enforceZdrXai: true });
  assertRecent(changed.updatedAt, "updated_at");
  const expected = { ...memberRail, limitUsd: 70, resetInterval: "weekly", enforceZdrXai: true, updatedAt: changed.updatedAt };
  assert.deepEqual(changed, expected);
  assert.equal((await updateGuardrail(memberRail.id, { enforceZdrXai: null })).enforceZdrXai, null);
  const without = await updateGuardrail(memberRail.id, { limitUsd: null, resetInterval: null });
  assert.deepEqual([without.limitUsd, without.resetInterval], [null, null]);
  await updateGuardrail(memberRail.id, { limitUsd: 70, resetInterval: "weekly" });
  const refuse = (request, message) =>
    refused(updateGuardrail(memberRail.id, request), errors.BadRequestResponseError, 400, message);
  await refuse({ resetInterval: null }, /must be set together/);
  await refuse({}, /No update fields provided/);
});

await operation("guardrails.create and update with content filters", async () => {
  const contentFilters = [
    { pattern: "PROJ-\\d{4,6}", action: "redact", label: "[PROJECT]" },
    { pattern: "x", action: "flag" },
  ];
  const contentFilterBuiltins = [
    { slug: "email", action: "block" },
    { slug: "regex-prompt-injection", action: "redact", scanScope: "user_only" },
  ];
  const made = await createGuardrail({ name: `${name} filters`, workspaceId: workspace.id, contentFilters, contentFilterBuiltins });
  assert.deepEqual((await guardrails.get({ id: made.id })).data, made);
  assert.deepEqual(made.contentFilters, contentFilters);
  assert.deepEqual(made.contentFilterBuiltins, [
    { ...contentFilterBuiltins[0], label: "[EMAIL]" },
    { ...contentFilterBuiltins[1], label: "[PROMPT_INJECTION]" },
  ]);
  const changed = await updateGuardrail(made.id, { contentFilters: null });
  assert.equal(changed.contentFilters, null);
  assert.deepEqual(changed.contentFilterBuiltins, made.contentFilterBuiltins);
  assert.equal((await updateGuardrail(made.id, { contentFilterBuiltins: [] })).contentFilterBuiltins, null);
  assert.equal((await guardrails.delete({ id: made.id })).deleted, true);
});

await operation("guardrails.update makes the default one of a workspace", async () => {
  const id = workspace.defaultGuardrailId;
  const made = await updateGuardrail(id, { limitUsd: 90, resetInterval: "monthly" });
  assert.deepEqual([made.id, made.workspaceId, made.limitUsd], [id, workspace.id, 90]);
  assert.equal(made.name, `Workspace ${workspace.id} Default`);
  await refused(updateGuardrail(id, { name: "mine" }), errors.BadRequestResponseError, 400, /name/);
});

const assignKeys = (id, keyHashes) => guardrails.bulkAssignKeys({ id, bulkAssignKeysRequest: { keyHashes } });
const assignMembers = (id, memberUserIds) => guardrails.bulkAssignMembers({ id, bulkAssignMembersRequest: { memberUserIds } });

await operation("guardrails.bulkAssignKeys", async () => {
  assert.equal((await assignKeys(keyRail.id, [hash])).assignedCount, 1);
  assert.equal((await assignKeys(keyRail.id, [hash])).assignedCount, 0);
  await refused(assignKeys(keyRail.id, ["0".repeat(64)]), errors.BadRequestResponseError, 400, /hash/);
  await refused(assignKeys(NOBODY, [hash]), errors.NotFoundResponseError, 404, /Guardrail not found/);
});

await operation("guardrails.bulkAssignMembers", async () => {
  assert.equal((await assignMembers(memberRail.id, [ann.id, bob.id])).assignedCount, 2);
  assert.equal((await assignMembers(memberRail.id, [ann.id])).assignedCount, 0);
  await refused(assignMembers(memberRail.id, ["user_nobody"]), errors.BadRequestResponseError, 400, /user_nobody/);
});

await operation("guardrails.listGuardrailKeyAssignments", async () => {
  const { items } = await walk(guardrails.listGuardrailKeyAssignments({ id: keyRail.id, limit: 1 }));
  assert.equal(items.length, 1);
  const [{ id, createdAt, ...rest }] = items;
  assert.match(id, UUID);
  assertRecent(createdAt, "created_at");
  const { label: keyLabel } = created.data;
  assert.deepEqual(rest, { guardrailId: keyRail.id, keyHash: hash, keyName: name, keyLabel, assignedBy: null });
  assert.deepEqual((await walk(guardrails.listGuardrailKeyAssignments({ id: memberRail.id }))).items, []);
  await refused(guardrails.listGuardrailKeyAssignments({ id: NOBODY }), errors.NotFoundResponseError, 404, /Guardrail/);
});

await operation("guardrails.listGuardrailMemberAssignments", async () => {
  const { items } = await walk(guardrails.listGuardrailMemberAssignments({ id: memberRail.id, limit: 1 }));
  assert.deepEqual(items.map(({ userId }) => userId).sort(), [...both.userIds].sort());
  for (const { guardrailId, organizationId, assignedBy } of items) {
    assert.equal(guardrailId, memberRail.id);
    assert.match(organizationId, /^org_/);
    assert.equal(assignedBy, null);
  }
});

await operation("guardrails.listKeyAssignments", async () => {
  const { items } = await walk(guardrails.listKeyAssignments({ limit: 1 }));
  assert.equal(items.filter(({ keyHash }) => keyHash === hash).length, 1);
});

await operation("guardrails.listMemberAssignments", async () => {
  const { items } = await walk(guardrails.listMemberAssignments({ limit: 1 }));
  assert.equal(items.filter(({ guardrailId }) => guardrailId === memberRail.id).length, 2);
});

await operation("guardrails.bulkUnassignMembers", async () => {
  const unassign = () =>
    guardrails.bulkUnassignMembers({ id: memberRail.id, bulkUnassignMembersRequest: { memberUserIds: [bob.id] } });
  assert.equal((await unassign()).unassignedCount, 1);
  assert.equal((await unassign()).unassignedCount, 0);
});

// --- What all of them do to a call

const chat = (request = {}) =>
  inference.chat.send({ chatRequest: { model: MODEL, messages, maxCompletionTokens: 200, ...request } });

/** What the key says of itself; the SDK does not know the budgets yet. */
async function current() {
  await inference.apiKeys.getCurrentKeyMetadata();
  const { status, answer } = await plain("GET", "/key", { key: created.key });
  assert.equal(status, 200);
  return answer.data;
}

const LAYERS = [
  ["workspace_default_member", "monthly", 90, workspace.defaultGuardrailId],
  ["workspace_default_key", "monthly", 90, workspace.defaultGuardrailId],
  ["member", "weekly", 70, memberRail.id],
  ["api_key", "daily", 80, keyRail.id],
  ...budgets.map(({ id, resetInterval, limitUsd }) => ["workspace", resetInterval, limitUsd, id]),
  ["key_limit", "monthly", 50, null],
];

async function assertLayers(spent) {
  const { budgets, effective_budget: effective, workspace_id: workspaceId } = await current();
  assert.equal(workspaceId, workspace.id);
  const seen = budgets.map((each) => [each.scope, each.reset_interval, each.limit_usd, each.guardrail_id ?? each.budget_id]);
  assert.deepEqual(seen, LAYERS);
  for (const each of budgets) {
    assertMoney(each.spend_usd, spent, `${each.scope} spend_usd`);
    assertMoney(each.remaining_usd, exact(each.limit_usd) - spent, `${each.scope} remaining_usd`);
    assert.equal(each.resets_at === null, each.reset_interval === null);
    assert.equal(each.budget_id !== null, each.scope === "workspace");
    assert.equal(each.include_byok, each.guardrail_id === keyRail.id);
  }
  assert.deepEqual(effective, budgets.find((each) => each.limit_usd === BUDGETS.daily), "not the one with the least left");
}

const usageBefore = exact((await account()).totalUsage);

await operation("GET /key shows every layer", () => assertLayers(0n));

let spent = await operation("every layer counts a chat.send", async () => {
  const cost = exact((await chat()).usage.cost);
  assert.ok(cost > 0n);
  await assertLayers(cost);
  assertMoney((await account()).totalUsage, usageBefore + cost, "total_usage");
  return cost;
});

await operation("chat.send with a spent workspace budget", async () => {
  await setBudget("daily", decimal(spent));
  const message = /^Workspace daily budget of \$([\d.]+) exceeded\. Contact your org admin\.$/;
  for (const stream of [false, true]) {
    const error = await refused(chat({ stream }), errors.ForbiddenResponseError, 403, message);
    assertMoney(Number(message.exec(error.message)[1]), spent, "the limit in the message");
    const { metadata } = error.error;
    assert.equal(metadata.limit_source, "openrouter_workspace_budget");
    assert.equal(metadata.scope, "workspace");
    assertMoney(metadata.limit_usd, spent, "limit_usd");
    assertMoney(metadata.spend_usd, spent, "spend_usd");
    assert.ok(Date.parse(metadata.resets_at) > Date.now(), `resets_at is over: ${metadata.resets_at}`);
  }
  const { budgets, effective_budget: effective } = await current();
  assert.deepEqual(effective, budgets.find((each) => each.scope === "workspace" && each.reset_interval === "daily"));
  assert.equal(effective.remaining_usd, 0);
  await setBudget("daily", BUDGETS.daily);
  spent += exact((await chat({ maxCompletionTokens: 1 })).usage.cost);
});

await operation("chat.send where a workspace budget has too little room", async () => {
  await setBudget("daily", decimal(spent + exact(1e-9)));
  const error = await refused(chat(), errors.PaymentRequiredResponseError, 402, /./);
  assert.equal(error.error.metadata.limit_source, "openrouter_workspace_budget");
  await setBudget("daily", BUDGETS.daily);
});

await operation("chat.send with a spent guardrail budget", async () => {
  const layers = [
    [workspace.defaultGuardrailId, "workspace_default_member"],
    [memberRail.id, "member"],
    [keyRail.id, "api_key"],
  ];
  for (const [id, scope] of layers) {
    const before = (await guardrails.get({ id })).data;
    await updateGuardrail(id, { limitUsd: decimal(spent) });
    const message = new RegExp(`^Guardrail ${before.resetInterval} budget of \\$[\\d.]+ exceeded`);
    const error = await refused(chat(), errors.ForbiddenResponseError, 403, message);
    assert.equal(error.error.metadata.limit_source, "openrouter_guardrail_budget");
    assert.equal(error.error.metadata.scope, scope);
    await updateGuardrail(id, { limitUsd: before.limitUsd });
  }
});

await operation("chat.send with a model or provider that a guardrail forbids", async () => {
  const blocked = async (rules) => {
    const none = { allowedModels: null, ignoredModels: null, allowedProviders: null, ignoredProviders: null };
    await updateGuardrail(keyRail.id, { ...none, ...rules });
    const told = /^No endpoints available matching your guardrail restrictions/;
    await refused(chat(), errors.NotFoundResponseError, 404, told);
    await refused(chat({ stream: true }), errors.NotFoundResponseError, 404, told);
  };
  await blocked({ allowedModels: ["tollgate/other"] });
  await blocked({ ignoredModels: [MODEL] });
  await blocked({ allowedProviders: ["nobody"] });
  await updateGuardrail(keyRail.id, { allowedModels: [MODEL], allowedProviders: null });
  spent += exact((await chat({ maxCompletionTokens: 1 })).usage.cost);
});

await operation("refusals cost nothing", () => assertLayers(spent));

await operation("a guardrail takes the place of another", async () => {
  assert.equal((await assignKeys(memberRail.id, [hash])).assignedCount, 1);
  assert.deepEqual((await walk(guardrails.listGuardrailKeyAssignments({ id: keyRail.id }))).items, []);
  assert.deepEqual((await current()).budgets.filter(({ scope }) => scope === "api_key").map((each) => each.limit_usd), [70]);
});

await operation("guardrails.bulkUnassignKeys", async () => {
  const unassign = () => guardrails.bulkUnassignKeys({ id: memberRail.id, bulkUnassignKeysRequest: { keyHashes: [hash] } });
  assert.equal((await unassign()).unassignedCount, 1);
  assert.equal((await unassign()).unassignedCount, 0);
  assert.ok(!(await current()).budgets.some(({ scope }) => scope === "api_key"));
});

await operation("management keys only", async () => {
  const told = [errors.UnauthorizedResponseError, 401, /Invalid management key/];
  await refused(inference.workspaces.list(), ...told);
  await refused(inference.workspaces.listBudgets({ workspaceRef: slug }), ...told);
  await refused(inference.guardrails.list(), ...told);
  await refused(inference.organization.listMembers(), ...told);
  const forbidden = /Only management keys can perform this operation/;
  await refused(inference.credits.getCredits(), errors.ForbiddenResponseError, 403, forbidden);
});

// --- The end of all of them

await operation("workspaces.deleteBudget for every interval", async () => {
  for (const interval of Object.keys(BUDGETS)) {
    assert.equal((await deleteBudget(interval)).deleted, true);
    assert.equal((await deleteBudget(interval)).deleted, true, "once more does no harm");
    await refused(workspaces.getBudget({ workspaceRef: slug, interval }), errors.NotFoundResponseError, 404, /Budget not found/);
  }
  assert.deepEqual((await workspaces.listBudgets({ workspaceRef: slug })).data, []);
});

await operation("guardrails.delete", async () => {
  assert.equal((await guardrails.delete({ id: memberRail.id })).deleted, true);
  await refused(guardrails.delete({ id: memberRail.id }), errors.NotFoundResponseError, 404, /Guardrail not found/);
  const scopes = (await current()).budgets.map(({ scope }) => scope);
  assert.deepEqual(scopes, ["workspace_default_member", "workspace_default_key", "key_limit"]);
});

await operation("workspaces.delete", async () => {
  assert.equal((await apiKeys.delete({ hash })).deleted, true);
  for (const { id } of [workspace, ...others]) {
    assert.equal((await workspaces.delete({ id })).deleted, true);
    await refused(workspaces.delete({ id }), errors.NotFoundResponseError, 404, /Workspace not found/);
  }
  await refused(getWorkspace(slug), errors.NotFoundResponseError, 404, /Workspace not found/);
  for (const id of [keyRail.id, workspace.defaultGuardrailId]) {
    await refused(guardrails.get({ id }), errors.NotFoundResponseError, 404, /Guardrail not found/);
  }
});

for (const { id } of [ann, bob]) {
  const { answer } = await plain("DELETE", `/organization/members/${id}`);
  assert.deepEqual(answer, { deleted: true });
}

finish();
