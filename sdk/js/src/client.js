/**
 * A small client of the rate limits, as the gateway serves them.
 *
 * A call is repeated on 429, 502, 503, 504 and when no answer came; what is left is an `ApiError`.
 * A denial is an answer (`allowed` is false), never an error.
 */

import { setTimeout as sleep } from "node:timers/promises";

import { ApiError, Limited, Unavailable, fromAnswer } from "./errors.js";

const PREFIX = "/v1/ratelimits";
const RETRIED = new Set([0, 429, 502, 503, 504]);
const FIRST_PAUSE_MS = 200;
const LONGEST_PAUSE_MS = 5_000;
const MAX_RETRY_AFTER_MS = 30_000;

export class Client {
  #base;
  #headers;
  #timeoutMs;
  #attempts;

  constructor(baseUrl, apiKey, { timeoutMs = 10_000, attempts = 5 } = {}) {
    const url = new URL(baseUrl);
    if (!["http:", "https:"].includes(url.protocol)) {
      throw new TypeError("the address looks like https://host[:port]");
    }
    this.#base = url.href.replace(/\/$/, "");
    this.#headers = { Authorization: `Bearer ${apiKey}`, Accept: "application/json" };
    this.#timeoutMs = timeoutMs;
    this.#attempts = attempts;
  }

  /** May this be done now? All policies pass, or nothing is taken. */
  check(policies, subject, { cost, priority } = {}) {
    return this.#post("check", { policies: names(policies), subject, cost, priority });
  }

  /** As `check`, but a denial is thrown as `Limited`. */
  async enforce(policies, subject, options) {
    const decision = await this.check(policies, subject, options);
    if (!decision.allowed) {
      const over = decision.limits.filter((one) => one.violated && !one.shadow);
      throw new Limited(`over the limit ${over.map((one) => one.policy).join(", ")}`, {
        status: 429, code: "rate_limited", retryAfterMs: decision.retry_after_ms,
      });
    }
    return decision;
  }

  /** Up to 1,000 checks in one step. `withinMs`: one try in this time. */
  async checkBatch(items, { atomic = false, withinMs } = {}) {
    const once = withinMs === undefined ? {} : { withinMs, attempts: 1 };
    return (await this.#post("check:batch", { items, atomic }, once)).results;
  }

  /** A slot that nobody else is given, at most `maxWaitMs` ahead. */
  reserve(policies, subject, { cost = 1, maxWaitMs = 0, priority } = {}) {
    const asked = { policies: names(policies), subject, cost, max_wait_ms: maxWaitMs, priority };
    return this.#post("reserve", asked);
  }

  /** Give back what a decision's token stands for, once; how much came back. */
  async refund(token, cost) {
    return (await this.#post("refund", { token, cost })).refunded;
  }

  /** Take `cost` whether it fits or not. Tried once: a repeat would take twice. */
  penalize(policy, subject, cost, { reason, withinMs } = {}) {
    return this.#post("penalize", { policy, subject, cost, reason }, { withinMs, attempts: 1 });
  }

  /** What an upstream said of its own bucket. */
  observe(policy, shop, { available, maximum, restoreRate, retryAfterMs, ageMs = 0 } = {}) {
    return this.#post("observe", {
      policy, shop, available, maximum, restore_rate: restoreRate, retry_after_ms: retryAfterMs,
      age_ms: ageMs,
    });
  }

  async #post(path, body, { withinMs = this.#timeoutMs, attempts = this.#attempts } = {}) {
    const data = JSON.stringify(body);
    for (let failures = 1; ; failures += 1) {
      try {
        return await this.#once(path, data, withinMs);
      } catch (error) {
        const waitMs = error.retryAfterMs ?? 0;
        const isHopeless = !(error instanceof ApiError) || !RETRIED.has(error.status);
        if (isHopeless || failures >= attempts || waitMs > MAX_RETRY_AFTER_MS) throw error;
        const backoffMs = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1));
        await sleep(Math.max(waitMs, backoffMs * (0.5 + Math.random() / 2)));
      }
    }
  }

  async #once(path, data, withinMs) {
    let response;
    let text;
    try {
      response = await fetch(`${this.#base}${PREFIX}/${path}`, {
        method: "POST",
        headers: {
          ...this.#headers,
          "Content-Type": "application/json",
          "Request-Timeout-Ms": String(Math.max(1, Math.trunc(withinMs))),
        },
        body: data,
        redirect: "manual",
        signal: AbortSignal.timeout(withinMs),
      });
      text = await response.text();
    } catch (error) {
      throw new Unavailable(`${error.name}: ${error.message}`, { code: "no_answer", cause: error });
    }
    if (!response.ok) throw fromAnswer(response.status, response.headers, text);
    try {
      return JSON.parse(text);
    } catch {
      throw new Unavailable("the answer is not what this client knows", {
        status: response.status, code: "bad_answer",
      });
    }
  }
}

function names(policies) {
  return typeof policies === "string" ? [policies] : [...policies];
}
