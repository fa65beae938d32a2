// What the scripts of the OpenRouter SDK share: clients that remember which operations answered, refusals, lists.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { OpenRouter } from "@openrouter/sdk";
import { BASE_URL } from "./check.mjs";

// The class that every resource of the SDK extends.
const Resource = Object.getPrototypeOf(OpenRouter);

/** Operations that answered what the SDK could decode: `workspaces.list`. */
export const called = new Set();

/** The SDK's client as it is; every call that succeeds through it is remembered. */
export const client = (apiKey) => remembering(new OpenRouter({ serverURL: BASE_URL, apiKey }), "");

function remembering(resource, prefix) {
  return new Proxy(resource, {
    get(target, name) {
      const value = Reflect.get(target, name, target);
      if (value instanceof Resource) return remembering(value, `${prefix}${name}.`);
      if (typeof value !== "function") return value;
      return async (...parameters) => {
        const answer = await value.apply(target, parameters);
        called.add(`${prefix}${name}`);
        return answer;
      };
    },
  });
}

/** All operations that the SDK offers, with the request that each makes, as its own sources say. */
export function offered(resource = new OpenRouter({ serverURL: BASE_URL }), prefix = "") {
  const operations = [];
  for (const [name, property] of Object.entries(Object.getOwnPropertyDescriptors(Object.getPrototypeOf(resource)))) {
    if (name.startsWith("_") || name === "constructor") continue;
    if (property.get) operations.push(...offered(resource[name], `${prefix}${name}.`));
    // What the client itself has, outside of resources, are helpers around operations.
    else if (prefix) operations.push({ name: `${prefix}${name}`, ...request(property.value) });
  }
  return operations;
}

// Nothing for a helper that makes no request of its own.
function request(method) {
  const [, name] = /(\w+)\(this\b/.exec(method.toString()) ?? [];
  if (!name) return {};
  const source = readFileSync(new URL(import.meta.resolve(`@openrouter/sdk/funcs/${name}`)), "utf8");
  return { method: /method: "(\w+)"/.exec(source)?.[1], path: /pathToFunc\("([^"]+)"/.exec(source)?.[1] };
}

/** Expects the SDK's own typed error, and the message in it. */
export async function refused(promise, kind, status, message) {
  const error = await promise.then(
    () => assert.fail(`answered, instead of ${status}`),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error.name} instead of ${kind.name}: ${error.message}`);
  assert.equal(error.statusCode, status);
  assert.equal(error.error.code, status);
  assert.match(error.message, message);
  return error;
}

/** All items of a list, page for page as the SDK walks through it. */
export async function walk(promise) {
  const items = [];
  const totals = new Set();
  let pages = 0;
  for await (const { result } of await promise) {
    pages += 1;
    totals.add(result.totalCount);
    items.push(...result.data);
  }
  assert.deepEqual([...totals], [items.length], "total_count");
  assert.equal(new Set(items.map((item) => item.id)).size, items.length, "an item was listed twice");
  return { items, pages };
}
