/**
 * Rate limits as a middleware of Express, or of whatever calls `(req, res, next)`.
 *
 *     app.use(rateLimit({ client, policies: ["api"], shop: (req) => req.session?.shop }));
 *
 * Who asks is what `subject` says; else the shop that `shop` names, of a session that the app has
 * verified; else the address, by the count of proxies that are trusted. What a header claims
 * otherwise counts for nothing.
 */

import { clientAddress } from "./addresses.js";
import { ApiError, Unavailable } from "./errors.js";
import { Limiter } from "./limiter.js";

// Those who were refused together should not come back together.
const RETRY_JITTER = 0.1;
// A peer without an address (a Unix socket): all of them count as one.
const NOBODY = "0.0.0.0";

/**
 * 429 with `RateLimit`, `RateLimit-Policy` and `Retry-After` for who is over a limit, 403 for who is on
 * the deny list; what was decided is `req.rateLimit`. A limiter that is away refuses nobody, unless `onFailure` is "closed":
 * then 503. A policy that does not exist is logged and refuses nobody.
 */
export function rateLimit({
  client, limiter, policies, subject, shop, trustedHops = 0, cost = 1, log = console, ...options
}) {
  const by = limiter ?? new Limiter(client, { ...options, log });
  return async function limit(req, res, next) {
    let decision;
    try {
      const whose = await whoseOf(req, { subject, shop, trustedHops });
      decision = await by.check(policies, whose, {
        cost: typeof cost === "function" ? cost(req) : cost,
      });
    } catch (error) {
      if (!(error instanceof ApiError)) return next(error);
      if (error instanceof Unavailable) return refuse(res, 503, unavailable(error.detail), {
        "Retry-After": "1",
      });
      log.error(`the limit ${[policies].flat().join(", ")} cannot be asked: ${error.message}`);
      return next();
    }
    const headers = headersOf(decision);
    if (!decision.allowed) return refuse(res, statusOf(decision), problem(decision), headers);
    for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
    req.rateLimit = decision;
    return next();
  };
}

async function whoseOf(req, { subject, shop, trustedHops }) {
  const said = subject && (await subject(req));
  if (said) return said;
  const verified = shop && (await shop(req));
  if (verified) return { shop: verified };
  const peer = req.socket?.remoteAddress || NOBODY;
  return { ip: clientAddress(peer, req.headers["x-forwarded-for"], trustedHops) };
}

/** `RateLimit-Policy` names each limit, `RateLimit` how much of it is left. */
function headersOf(decision) {
  const said = {};
  const counted = decision.limits.filter((state) => !state.shadow);
  if (counted.length > 0) {
    said["RateLimit-Policy"] = counted
      .map(({ policy, limit, window_s }) => `"${policy}";q=${limit};w=${window_s}`).join(", ");
    said.RateLimit = counted
      .map(({ policy, remaining, reset_ms }) =>
        `"${policy}";r=${remaining};t=${Math.ceil(reset_ms / 1000)}`).join(", ");
  }
  if (decision.degraded) said.Degraded = `limits;${decision.backend}`;
  if (!decision.allowed && decision.retry_after_ms != null) {
    const waitS = (decision.retry_after_ms / 1000) * (1 + Math.random() * RETRY_JITTER);
    said["Retry-After"] = String(Math.max(1, Math.ceil(waitS)));
  }
  return said;
}

function refuse(res, status, document, headers) {
  res.statusCode = status;
  res.setHeader("Content-Type", "application/problem+json");
  for (const [name, value] of Object.entries(headers)) res.setHeader(name, value);
  res.end(JSON.stringify(document));
}

/** No waiting helps who is on the deny list. */
function statusOf(decision) {
  return decision.listed === "deny" ? 403 : 429;
}

function problem(decision) {
  if (statusOf(decision) === 403) {
    return document(403, "Forbidden", "denied_by_list", "on the deny list", false);
  }
  const over = decision.limits.filter((one) => one.violated && !one.shadow);
  const detail = over.length > 0
    ? `over the limit ${over.map((one) => one.policy).join(", ")}`
    : "refused";
  const isRetryable = decision.retry_after_ms != null;
  return document(429, "Too Many Requests", "rate_limited", detail, isRetryable);
}

function unavailable(detail) {
  return document(503, "Service Unavailable", "unavailable", detail, true);
}

function document(status, title, code, detail, retryable) {
  return { type: `urn:mainstay:problem:${code}`, title, status, detail, code, retryable };
}
