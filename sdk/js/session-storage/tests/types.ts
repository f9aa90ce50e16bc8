/** Compiled and never run: what an app written in TypeScript says. */

import type { Session } from "@shopify/shopify-api";
import type { SessionStorage } from "@shopify/shopify-app-session-storage";
import { ApiError, MainstaySessionStorage } from "mainstay-session-storage";

const storage: SessionStorage = new MainstaySessionStorage("http://127.0.0.1:18080", "key", {
  timeoutMs: 5_000,
  attempts: 2,
  renews: false,
});

export const loaded: Promise<Session | undefined> = storage.loadSession("offline_a.myshopify.com");
export const statusOf = (error: unknown): number => (error instanceof ApiError ? error.status : 0);

// @ts-expect-error there is no storage without a key
export const keyless = new MainstaySessionStorage("http://127.0.0.1:18080");
