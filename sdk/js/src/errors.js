/** What a deployment can answer instead of what was asked for. `status` is 0 when no answer came. */
export class ApiError extends Error {
  constructor(detail, { status = 0, code = "", errors = [], retryAfterMs = null, cause } = {}) {
    super(`${status || "no answer"} ${code}: ${detail}`, { cause });
    this.name = new.target.name;
    this.detail = detail;
    this.status = status;
    this.code = code;
    this.errors = errors;
    this.retryAfterMs = retryAfterMs;
  }
}

/** The request is wrong; `errors` says where. */
export class Invalid extends ApiError {}
export class NotFound extends ApiError {}
/** Too many for now. */
export class Limited extends ApiError {}
/** Not now, or no answer at all. */
export class Unavailable extends ApiError {}

const KINDS = new Map([
  [400, Invalid], [404, NotFound], [413, Invalid], [415, Invalid], [422, Invalid], [429, Limited],
]);

/** The error an answer stands for; one that is no problem document still has a status. */
export function fromAnswer(status, headers, text) {
  const document = parsed(text);
  const kind = KINDS.get(status) ?? (status >= 500 ? Unavailable : ApiError);
  const seconds = Number(headers.get("retry-after") ?? Number.NaN);
  return new kind(String(document.detail ?? document.title ?? "no reason was given"), {
    status,
    code: String(document.code ?? `http_${status}`),
    errors: Array.isArray(document.errors) ? document.errors : [],
    retryAfterMs: Number.isFinite(seconds) && seconds >= 0 ? seconds * 1000 : null,
  });
}

function parsed(text) {
  try {
    const document = JSON.parse(text);
    return document !== null && typeof document === "object" ? document : {};
  } catch {
    return {};
  }
}
