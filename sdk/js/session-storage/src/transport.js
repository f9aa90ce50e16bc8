/** Calls of the gateway. All of them may be repeated: none does more when it is done twice. */

import { setTimeout as sleep } from "node:timers/promises";

const RETRIED = new Set([0, 429, 502, 503, 504]);
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 2_000;

/** What was answered instead. `status` is 0 when no answer came. Never holds what was sent. */
export class ApiError extends Error {
  constructor(detail, { status = 0, code = "", errors = [], retryAfterMs = null, cause } = {}) {
    super(`${status || "no answer"} ${code}: ${detail}`, { cause });
    this.name = "ApiError";
    this.detail = detail;
    this.status = status;
    this.code = code;
    this.errors = errors;
    this.retryAfterMs = retryAfterMs;
  }
}

export class Transport {
  #base;
  #key;
  #timeoutMs;
  #attempts;

  /** `timeoutMs` is for a call with its repeats. */
  constructor(baseUrl, apiKey, { timeoutMs, attempts }) {
    const url = new URL(baseUrl);
    if (!["http:", "https:"].includes(url.protocol)) {
      throw new TypeError("the address looks like https://host[:port]");
    }
    if (!apiKey) throw new TypeError("an API key is needed");
    this.#base = url.href.replace(/\/$/, "");
    this.#key = apiKey;
    this.#timeoutMs = timeoutMs;
    this.#attempts = attempts;
  }

  /** The answer's JSON; of an empty one nothing. Throws ApiError. */
  async call(method, path, value, { attempts = this.#attempts } = {}) {
    const body = value === undefined ? undefined : JSON.stringify(value);
    const deadline = performance.now() + this.#timeoutMs;
    for (let failures = 1; ; failures += 1) {
      const leftMs = deadline - performance.now();
      try {
        return await this.#once(method, path, body, Math.max(1, Math.trunc(leftMs)));
      } catch (error) {
        if (!RETRIED.has(error.status) || failures >= attempts) throw error;
        const pauseMs = Math.max(error.retryAfterMs ?? 0, pause(failures));
        if (performance.now() + pauseMs >= deadline) throw error;
        await sleep(pauseMs);
      }
    }
  }

  async #once(method, path, body, withinMs) {
    let response;
    let text;
    try {
      response = await fetch(this.#base + path, {
        method,
        headers: {
          Authorization: `Bearer ${this.#key}`,
          Accept: "application/json",
          "Request-Timeout-Ms": String(withinMs),
          ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        },
        body,
        redirect: "manual",
        signal: AbortSignal.timeout(withinMs),
      });
      text = await response.text();
    } catch (error) {
      throw new ApiError(`${error.name}: ${error.message}`, { code: "no_answer", cause: error });
    }
    if (!response.ok) throw fromAnswer(response, parsed(text));
    if (response.status === 204) return undefined;
    return parsed(text) ?? notOurs(response);
  }
}

function pause(failures) {
  const longest = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** (failures - 1));
  return longest * (0.5 + Math.random() / 2);
}

function notOurs({ status }) {
  throw new ApiError("the answer is not what this client knows", { status, code: "bad_answer" });
}

/** One that is no problem document still has a status. */
function fromAnswer(response, document) {
  const { detail, title, code, errors } = document ?? {};
  const seconds = Number(response.headers.get("retry-after") ?? Number.NaN);
  return new ApiError(String(detail ?? title ?? "no reason was given"), {
    status: response.status,
    code: String(code ?? `http_${response.status}`),
    errors: Array.isArray(errors) ? errors : [],
    retryAfterMs: Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null,
  });
}

function parsed(text) {
  try {
    const document = JSON.parse(text);
    return document !== null && typeof document === "object" ? document : undefined;
  } catch {
    return undefined;
  }
}
