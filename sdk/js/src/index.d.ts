/** Mainstay for app developers: rate limits so far. */

/** Who is counted. A shop that is not verified counts as its `ip`. */
export interface Subject {
  shop?: string | null;
  shop_verified?: boolean;
  ip?: string | null;
  user?: string | null;
  sender?: string | null;
}

/** One policy in a decision: `limit` is the burst, `reset_ms` the time until one more is free. */
export interface LimitState {
  policy: string;
  limit: number;
  remaining: number;
  reset_ms: number;
  window_s: number;
  violated: boolean;
  shadow: boolean;
}

/** When `allowed`, act after `wait_ms`; else nothing was taken, ask again after `retry_after_ms`. */
export interface Decision {
  allowed: boolean;
  wait_ms: number;
  retry_after_ms: number | null;
  unsatisfiable?: boolean;
  token?: string | null;
  listed?: "allow" | "deny" | null;
  limits: LimitState[];
  backend: "redis" | "postgres" | "local";
  degraded: boolean;
}

export interface Levels {
  limits: LimitState[];
  backend: string;
  degraded: boolean;
}

export type Priority = "interactive" | "default" | "batch" | "test";
export type Policies = string | readonly string[];

export interface CheckItem {
  policies: readonly string[];
  subject: Subject;
  cost?: number;
  priority?: Priority;
  mode?: "consume" | "peek";
}

export interface Flaw {
  pointer: string;
  detail: string;
}

export class ApiError extends Error {
  readonly detail: string;
  readonly status: number;
  readonly code: string;
  readonly errors: readonly Flaw[];
  readonly retryAfterMs: number | null;
}
export class Invalid extends ApiError {}
export class NotFound extends ApiError {}
export class Limited extends ApiError {}
export class Unavailable extends ApiError {}

export class Client {
  constructor(baseUrl: string, apiKey: string, options?: { timeoutMs?: number; attempts?: number });
  check(
    policies: Policies, subject: Subject, options?: { cost?: number; priority?: Priority },
  ): Promise<Decision>;
  enforce(
    policies: Policies, subject: Subject, options?: { cost?: number; priority?: Priority },
  ): Promise<Decision>;
  checkBatch(
    items: readonly CheckItem[], options?: { atomic?: boolean; withinMs?: number },
  ): Promise<Decision[]>;
  reserve(
    policies: Policies, subject: Subject,
    options?: { cost?: number; maxWaitMs?: number; priority?: Priority },
  ): Promise<Decision>;
  refund(token: string, cost?: number): Promise<number>;
  penalize(
    policy: string, subject: Subject, cost: number,
    options?: { reason?: string; withinMs?: number },
  ): Promise<Levels>;
  observe(policy: string, shop: string, told?: {
    available?: number; maximum?: number; restoreRate?: number; retryAfterMs?: number;
    ageMs?: number;
  }): Promise<Levels>;
}

export interface Log {
  warn(message: string): void;
  error(message: string): void;
}

export interface LimiterOptions {
  /** How long an answer may take; 100. */
  budgetMs?: number;
  /** How many processes like this one share the limits; 1. */
  replicas?: number;
  /** Without a limiter: decide by a share of it here, let pass, or throw `Unavailable`. */
  onFailure?: "local" | "open" | "closed";
  /** Of policies, for the time before the first answer. */
  rates?: Record<string, { perS: number; burst: number }>;
  /** How soon to look whether the limiter is back; 250, doubling up to 5,000. */
  pauseMs?: number;
  clock?: () => number;
  log?: Log;
}

export class Limiter {
  constructor(client: Client, options?: LimiterOptions);
  readonly isAway: boolean;
  close(): void;
  check(
    policies: Policies, subject: Subject, options?: { cost?: number; priority?: Priority },
  ): Promise<Decision>;
}

/** What the middleware reads of a request, and of an answer: those of Express and of Node have it. */
export interface RequestLike {
  headers: Record<string, string | string[] | undefined>;
  socket?: { remoteAddress?: string };
  rateLimit?: Decision;
}
export interface ResponseLike {
  statusCode: number;
  setHeader(name: string, value: string): unknown;
  end(body?: string): unknown;
}

export interface RateLimitOptions<R extends RequestLike = RequestLike>
  extends Omit<LimiterOptions, "clock"> {
  /** One of the two; a `limiter` may serve several middlewares. */
  client?: Client;
  limiter?: Limiter;
  policies: Policies;
  /** Who asks; nothing: the shop, or the address. */
  subject?: (req: R) => Subject | null | undefined | Promise<Subject | null | undefined>;
  /** The shop of a session that the app has verified. */
  shop?: (req: R) => string | null | undefined | Promise<string | null | undefined>;
  /** How many proxies in front may be believed; 0. */
  trustedHops?: number;
  cost?: number | ((req: R) => number);
}

export function rateLimit<R extends RequestLike = RequestLike>(
  options: RateLimitOptions<R>,
): (req: R, res: ResponseLike, next: (error?: unknown) => void) => Promise<void>;

export function clientAddress(
  peer: string, forwardedFor: string | undefined, trustedHops: number,
): string;
