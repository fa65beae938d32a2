// Drives a running tollgate with the official TypeScript SDK, unmodified but for its server URL: models, endpoints,
// providers and activity.
import assert from "node:assert/strict";
import * as errors from "@openrouter/sdk/models/errors";
import { finish, MANAGEMENT_KEY, MODEL, operation } from "./check.mjs";
import { client, refused } from "./client.mjs";

const { models, endpoints, providers, analytics } = client(MANAGEMENT_KEY);
const [author, slug] = MODEL.split("/");

await operation("models.get", async () => {
  const { data } = await models.get({ author, slug });
  assert.equal(data.id, MODEL);
  await refused(models.get({ author, slug: "no-such-model" }), errors.NotFoundResponseError, 404, /Model not found/);
});

await operation("models.listForUser", async () => {
  const pages = await models.listForUser({ bearer: MANAGEMENT_KEY }, { limit: 1 });
  const ids = [];
  for await (const page of pages) ids.push(...(page.result ?? page).data.map(({ id }) => id));
  assert.ok(ids.includes(MODEL), ids.join(", "));
});

await operation("endpoints.list", async () => {
  const { data } = await endpoints.list({ author, slug });
  assert.equal(data.id, MODEL);
  assert.ok(data.endpoints.length >= 1 && data.endpoints.every(({ providerName }) => providerName));
});

await operation("providers.list", async () => {
  const { data } = await providers.list();
  const offered = (await endpoints.list({ author, slug })).data.endpoints;
  assert.ok(offered.every(({ providerName }) => data.some((provider) => provider.slug === providerName)));
});

await operation("analytics.getUserActivity", async () => {
  const { data } = await analytics.getUserActivity();
  assert.ok(Array.isArray(data), "completed days only, and today is not over");
  const tomorrow = new Date(Date.now() + 24 * 60 * 60 * 1000).toISOString().slice(0, 10);
  await refused(analytics.getUserActivity({ date: tomorrow }), errors.BadRequestResponseError, 400, /30 completed UTC days/);
});

finish();
