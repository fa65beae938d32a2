// Runs every script of the OpenRouter SDK, and says which operations that the SDK offers the server has answered.
//
// An operation that nobody called is asked for by plain HTTP: the server must not know it, and `not_served.json` must say
// why. So whatever the server begins to serve, and whatever a new SDK begins to offer, shows up here.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { BASE_URL, operation, plain } from "./check.mjs";
import { called, offered } from "./client.mjs";

// One after the other: each wants to be alone with the keys.
const SCRIPTS = ["./keys.mjs", "./organization.mjs", "./catalogue.mjs", "./oauth.mjs", "./byok.mjs"];
for (const script of SCRIPTS) await import(script);

/** What the server serves, and each SDK must find. */
const RESOURCES = ["apiKeys", "credits", "workspaces", "guardrails", "organization", "models", "providers", "oAuth", "byok"];
/** Of the SDK's own, without a request. */
const HELPERS = ["oAuth.createAuthorizationUrl", "oAuth.createSHA256CodeChallenge"];

const reasons = Object.entries(JSON.parse(readFileSync(new URL("../not_served.json", import.meta.url), "utf8")));

/** What the longest prefix of a path says. */
function reasonOf(path) {
  const fitting = reasons.filter(([prefix]) => path.startsWith(prefix));
  return fitting.sort(([one], [other]) => other.length - one.length)[0]?.[1];
}

/** Whether the server knows a request. No body is ever good enough to be obeyed. */
async function isServed({ method, path }) {
  const base = path.startsWith("/api/") ? new URL(BASE_URL).origin : BASE_URL;
  const body = ["GET", "DELETE"].includes(method) ? undefined : "{";
  const { status, answer } = await plain(method, path.replaceAll(/\{\w+\}/g, "none"), { body, base });
  return status !== 405 && !(status === 404 && answer.error.message === "Resource not found");
}

await operation("every operation that is served was called", async () => {
  const operations = offered().sort((one, other) => (one.name < other.name ? -1 : 1));
  const gaps = [];
  const missing = new Map();
  for (const each of operations) {
    const { name, method, path } = each;
    if (called.has(name)) {
      console.log(`called      ${name}  ${method} ${path}`);
    } else if (HELPERS.includes(name)) {
      continue;
    } else if (!path) {
      gaps.push(`unknown     ${name}  the request that it makes was not found in the SDK`);
    } else if (await isServed(each)) {
      gaps.push(`not called  ${name}  ${method} ${path}`);
    } else if (!reasonOf(path)) {
      gaps.push(`not served  ${name}  ${method} ${path}  and not_served.json gives no reason`);
    } else {
      missing.set(reasonOf(path), [...(missing.get(reasonOf(path)) ?? []), name]);
    }
  }
  for (const [reason, names] of missing) console.log(`not served  ${names.join(", ")}: ${reason}`);
  for (const gap of gaps) console.log(gap);
  const absent = [...missing.values()].flat().length;
  console.log(`${called.size} called, ${absent} not served, of ${operations.length - HELPERS.length} that the SDK offers`);
  assert.deepEqual(gaps, []);
  const names = operations.map(({ name }) => name);
  for (const name of called) assert.ok(names.includes(name), `${name} was called, and is not offered`);
  for (const resource of RESOURCES) assert.ok(names.some((name) => name.startsWith(`${resource}.`)), `no ${resource}`);
});
