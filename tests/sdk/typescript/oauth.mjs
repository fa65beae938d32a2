// Lets an app get a key for a code (OAuth PKCE) with the official TypeScript SDK, unmodified but for its server URL.
import assert from "node:assert/strict";
import { createHash } from "node:crypto";
import * as errors from "@openrouter/sdk/models/errors";
import { assertRecent, finish, MANAGEMENT_KEY, operation } from "./check.mjs";
import { client, refused } from "./client.mjs";

const CALLBACK = "https://app.example.org/back?state=1";
const management = client(MANAGEMENT_KEY);
// An app has no key before it exchanged a code for one.
const app = client();

const { codeChallenge, codeVerifier } = await operation("oAuth.createSHA256CodeChallenge", () =>
  management.oAuth.createSHA256CodeChallenge());

const create = async (request = {}) => {
  const { data } = await management.oAuth.createAuthCode({
    requestBody: { callbackUrl: CALLBACK, codeChallenge, codeChallengeMethod: "S256", ...request },
  });
  return data;
};
const exchange = (requestBody) => app.oAuth.exchangeAuthCodeForAPIKey({ requestBody });

const expiresAt = new Date(Date.now() + 3_600_000);

const code = await operation("oAuth.createAuthCode", async () => {
  const limits = { limit: 0.5, usageLimitType: "weekly", expiresAt };
  const data = await create({ keyLabel: "sdk typescript app", ...limits });
  assert.ok(data.id);
  assert.ok(Number.isInteger(data.appId));
  assertRecent(data.createdAt, "created_at");
  assert.equal((await create()).appId, data.appId, "it is the same app");
  return data.id;
});

await operation("oAuth.exchangeAuthCodeForAPIKey refuses the wrong verifier and method", async () => {
  await refused(exchange({ code, codeVerifier: "guess" }), errors.ForbiddenResponseError, 403, /Invalid code/);
  await refused(
    exchange({ code, codeVerifier, codeChallengeMethod: "plain" }),
    errors.BadRequestResponseError, 400, /Invalid code_challenge_method/,
  );
});

const hash = await operation("oAuth.exchangeAuthCodeForAPIKey", async () => {
  const { key, userId } = await exchange({ code, codeVerifier, codeChallengeMethod: "S256" });
  assert.match(key, /^sk-or-v1-[0-9a-f]{64}$/);
  assert.equal(userId, null);
  const { data } = await client(key).apiKeys.getCurrentKeyMetadata();
  assert.equal(data.limit, 0.5);
  assert.equal(data.limitReset, "weekly");
  assert.equal(data.expiresAt.getTime(), expiresAt.getTime());
  await refused(
    client(key).oAuth.createAuthCode({ requestBody: { callbackUrl: CALLBACK, codeChallenge } }),
    errors.ForbiddenResponseError, 403, /Only management keys can perform this operation/,
  );
  return createHash("sha256").update(key).digest("hex");
});

await operation("oAuth.exchangeAuthCodeForAPIKey refuses a used code", () =>
  refused(exchange({ code, codeVerifier }), errors.ForbiddenResponseError, 403, /Invalid code or code_verifier/));

await operation("oAuth.createAuthCode refuses what is not safe", async () => {
  await refused(create({ callbackUrl: "http://app.example.org" }), errors.BadRequestResponseError, 400, /callback_url/);
  await refused(create({ codeChallenge: undefined }), errors.BadRequestResponseError, 400, /code_challenge/);
});

await operation("the key is like any other", async () => {
  const { data } = await management.apiKeys.get({ hash });
  assert.equal(data.name, "sdk typescript app");
  assert.equal((await management.apiKeys.delete({ hash })).deleted, true);
});

finish();
