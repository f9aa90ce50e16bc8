/** Shopify's SessionStorage on Mainstay: what it stores is sealed, and renewed once for all who ask. */

import type { Session } from "@shopify/shopify-api";
import type { SessionStorage } from "@shopify/shopify-app-session-storage";

export interface Flaw {
  pointer: string;
  detail: string;
}

/** What was answered instead. `status` is 0 when no answer came. */
export class ApiError extends Error {
  readonly detail: string;
  readonly status: number;
  readonly code: string;
  readonly errors: readonly Flaw[];
  readonly retryAfterMs: number | null;
}

export interface Options {
  /** How long a call with its repeats may take; 10,000. */
  timeoutMs?: number;
  /** How often it is sent at most; 4. */
  attempts?: number;
  /** Have a shop's token renewed when it has less than ten minutes; true. */
  renews?: boolean;
}

export class MainstaySessionStorage implements SessionStorage {
  /** The key needs the scopes sessions:read, sessions:write and tokens:read. */
  constructor(baseUrl: string, apiKey: string, options?: Options);
  storeSession(session: Session): Promise<boolean>;
  loadSession(id: string): Promise<Session | undefined>;
  deleteSession(id: string): Promise<boolean>;
  deleteSessions(ids: string[]): Promise<boolean>;
  findSessionsByShop(shop: string): Promise<Session[]>;
}
