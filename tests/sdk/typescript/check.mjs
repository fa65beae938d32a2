// What all scripts share: the environment, one line per operation, plain HTTP, exact money.
import assert from "node:assert/strict";

/** A client that retries server errors would otherwise keep a failing run alive for an hour. */
const DEADLINE_MS = 180_000;

const variable = (name) => {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is not set`);
    process.exit(2);
  }
  return value;
};

export const BASE_URL = `${variable("TOLLGATE_URL").replace(/\/+$/, "")}/api/v1`;
export const MANAGEMENT_KEY = variable("TOLLGATE_MANAGEMENT_KEY");
export const MODEL = variable("TOLLGATE_MODEL");

// The clients fall back to these; the scripts must see only what they pass themselves.
for (const name of Object.keys(process.env)) {
  if (/^(OPENAI|OPENROUTER)_/.test(name)) delete process.env[name];
}

let operations = 0;

/** Runs one operation, prints its line, and ends the process at the first failure. */
export async function operation(name, run) {
  try {
    const result = await run();
    operations += 1;
    console.log(`ok ${name}`);
    return result;
  } catch (error) {
    console.log(`not ok ${name}`);
    console.error(error);
    process.exit(1);
  }
}

export function finish() {
  console.log(`${operations} operations`);
  operations = 0;
}

/** A request without any client, for what the clients do not know: what was answered, and its status. */
export async function plain(method, path, { body, key = MANAGEMENT_KEY, base = BASE_URL } = {}) {
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(`${base}${path}`, { method, headers, body: text });
  return { status: response.status, answer: await response.json() };
}

// Windows of a day, week or month must not roll between two calls.
const DAY_MS = 86_400_000;
const leftOfDay = DAY_MS - (Date.now() % DAY_MS);
if (leftOfDay < 60_000) await new Promise((resolve) => setTimeout(resolve, leftOfDay + 1_000));

setTimeout(() => {
  console.error(`not finished after ${DEADLINE_MS / 1000} seconds`);
  process.exit(1);
}, DEADLINE_MS).unref();

const SCALE = 18;

/** A decimal as a whole number of 10^-18, from the shortest text that names the same double: sums are then exact. */
export function exact(number) {
  assert.equal(typeof number, "number", `not a number: ${number}`);
  const parts = /^(-?)(\d+)(?:\.(\d+))?(?:e([+-]\d+))?$/.exec(String(number));
  assert.ok(parts, `not a decimal: ${number}`);
  const [, sign, whole, fraction = "", exponent = "0"] = parts;
  const shift = SCALE - fraction.length + Number(exponent);
  assert.ok(shift >= 0, `more than ${SCALE} decimals: ${number}`);
  return BigInt(`${sign}${whole}${fraction}`) * 10n ** BigInt(shift);
}

/** The number that `exact` would turn into this. */
export function decimal(units) {
  assert.ok(units >= 0n);
  const digits = units.toString().padStart(SCALE + 1, "0");
  return Number(`${digits.slice(0, -SCALE)}.${digits.slice(-SCALE)}`);
}

export function assertMoney(actual, expected, what) {
  const units = exact(actual);
  assert.equal(units, expected, `${what}: ${actual} is not ${decimal(expected)}`);
}

export function assertRecent(text, what) {
  const age = Math.abs(Date.now() - Date.parse(text));
  assert.ok(age < 300_000, `${what} is not a time of these minutes: ${text}`);
}

/**
 * A limit that leaves room for the prompt but not for the answer: what to leave beyond what is spent, in units of
 * `exact`, and the `max_tokens` to ask for. Prices are decimal strings per token.
 */
export function unaffordable(pricing, maxOutputTokens) {
  const prompt = exact(Number(pricing.prompt));
  const completion = exact(Number(pricing.completion));
  assert.ok(completion > 0n, "the model costs nothing");
  const room = prompt * 1000n + completion * 2n + exact(Number(pricing.request ?? "0"));
  const maxTokens = Number(room / completion) + 100;
  assert.ok(maxOutputTokens == null || maxTokens <= maxOutputTokens, "the model's answers are too short for this test");
  return { room, maxTokens };
}
