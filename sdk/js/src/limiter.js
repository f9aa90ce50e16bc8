/**
 * Rate limits for a program that must go on when its limiter does not answer.
 *
 * Concurrent checks travel together: one call is on its way, the next one gathers. Who got no answer
 * within the budget, and everybody after him until the limiter is back, is decided here, by a share
 * of what was last seen; what was let pass meanwhile is told when it is back, before it decides again.
 */

import { network } from "./addresses.js";
import { Buckets } from "./buckets.js";
import { ApiError, Invalid, NotFound, Unavailable } from "./errors.js";

const BATCH_ITEMS = 1000;
const MAX_DENIALS = 10_000;
const LONGEST_DENIAL_MS = 1000;
const LONGEST_PAUSE_MS = 5_000;
// Telling what was spent: so many at once, each within so long; then the limiter decides again.
const DEBITS_AT_ONCE = 16;
const DEBIT_WITHIN_MS = 1000;
const ROUNDS = 5;
const REASON = "let pass while the limiter was away";

export class Limiter {
  #client;
  #budgetMs;
  #onFailure;
  #pauseMs;
  #clock;
  #log;
  #buckets;
  #denials = new Map();
  #waiting = [];
  #isBusy = false;
  #isAway = false;
  #timer = null;

  constructor(client, {
    budgetMs = 100, replicas = 1, onFailure = "local", rates = {}, pauseMs = 250,
    clock = () => performance.now(), log = console,
  } = {}) {
    if (!["local", "open", "closed"].includes(onFailure)) {
      throw new TypeError("onFailure is local, open or closed");
    }
    if (!(replicas >= 1)) throw new TypeError("replicas is one at least");
    this.#client = client;
    this.#budgetMs = budgetMs;
    this.#onFailure = onFailure;
    this.#pauseMs = pauseMs;
    this.#clock = clock;
    this.#log = log;
    this.#buckets = new Buckets({ replicas, rates });
  }

  /** Is everything decided here now? */
  get isAway() {
    return this.#isAway;
  }

  /** Stop looking whether the limiter is back. */
  close() {
    clearTimeout(this.#timer);
    this.#timer = null;
  }

  /**
   * As `Client.check`. Throws `Invalid` and `NotFound`, for a question that is wrong, and
   * `Unavailable` with `onFailure: "closed"` alone.
   */
  async check(policies, subject, { cost = 1, priority = "default" } = {}) {
    const ask = asked(policies, subject, cost, priority);
    const denied = this.#denied(ask);
    if (denied !== null) return denied;
    if (this.#isAway) return this.#alone(ask);
    try {
      const decision = await this.#together(ask);
      this.#learn(ask, decision);
      return decision;
    } catch (error) {
      const isOurs = !(error instanceof ApiError);
      if (isOurs || error instanceof Invalid || error instanceof NotFound) throw error;
      this.#leave(ask, error);
      return this.#alone(ask);
    }
  }

  /** The denial that still holds, with the time that is left. */
  #denied(ask) {
    const kept = this.#denials.get(ask.key);
    if (kept === undefined) return null;
    const now = this.#clock();
    if (now >= kept.until) {
      this.#denials.delete(ask.key);
      return null;
    }
    const leftMs = Math.max(1, Math.ceil(kept.decision.retry_after_ms - (now - kept.at)));
    return { ...kept.decision, retry_after_ms: leftMs, wait_ms: leftMs };
  }

  #learn(ask, decision) {
    const now = this.#clock();
    this.#buckets.see(ask.counted, decision.limits, now);
    if (decision.allowed || !decision.retry_after_ms) return;
    const until = now + Math.min(LONGEST_DENIAL_MS, decision.retry_after_ms);
    this.#denials.set(ask.key, { at: now, until, decision });
    if (this.#denials.size > MAX_DENIALS) this.#denials.delete(this.#denials.keys().next().value);
  }

  #alone(ask) {
    if (this.#onFailure === "closed") {
      throw new Unavailable("no limiter answers", { code: "limiter_unavailable" });
    }
    const local = { wait_ms: 0, retry_after_ms: null, backend: "local", degraded: true };
    if (this.#onFailure === "open") return { allowed: true, limits: [], ...local };
    const found = this.#buckets.take(ask.policies, ask.counted, ask.cost, this.#clock());
    const { allowed, limits, unsatisfiable } = found;
    const waitMs = allowed || unsatisfiable ? null : Math.max(1, Math.ceil(found.waitMs));
    return { allowed, limits, unsatisfiable, ...local, wait_ms: waitMs ?? 0, retry_after_ms: waitMs };
  }

  #together(ask) {
    return new Promise((resolve, reject) => {
      const entry = { ask, isDone: false };
      const timer = setTimeout(() => {
        entry.settle(new Unavailable("no answer in time", { code: "no_answer" }));
      }, this.#budgetMs);
      entry.settle = (outcome) => {
        if (entry.isDone) return;
        entry.isDone = true;
        clearTimeout(timer);
        if (outcome instanceof Error) reject(outcome);
        else resolve(outcome);
      };
      this.#waiting.push(entry);
      if (!this.#isBusy) {
        this.#isBusy = true;
        setImmediate(() => this.#run());
      }
    });
  }

  async #run() {
    for (;;) {
      // Who gave up is not asked for.
      const batch = this.#waiting.splice(0, BATCH_ITEMS).filter((entry) => !entry.isDone);
      if (batch.length > 0) {
        const told = await this.#told(batch.map(({ ask }) => item(ask)));
        batch.forEach((entry, at) => entry.settle(told[at]));
      } else if (this.#waiting.length === 0) {
        this.#isBusy = false;
        return;
      }
    }
  }

  /** An answer for each; who asked something wrong does not spoil it for the others. */
  async #told(items) {
    const told = await this.#asked(items);
    const fault = told[0];
    if (!(fault instanceof Invalid || fault instanceof NotFound)) return told;
    const wrong = wrongItems(fault);
    if (wrong.size === 0) return told;
    const good = items.map((_, at) => at).filter((at) => !wrong.has(at));
    const decided = good.length === 0 ? [] : await this.#asked(good.map((at) => items[at]));
    const each = items.map((_, at) => ofItem(fault, at));
    good.forEach((at, place) => {
      each[at] = decided[place];
    });
    return each;
  }

  /** What befell the call befell each of them. */
  async #asked(items) {
    try {
      const decisions = await this.#client.checkBatch(items, { withinMs: this.#budgetMs });
      if (!Array.isArray(decisions) || decisions.length !== items.length) {
        throw new Unavailable("the limiter answered for others", { code: "bad_answer" });
      }
      return decisions;
    } catch (error) {
      return items.map(() => error);
    }
  }

  #leave(ask, error) {
    if (this.#isAway) return;
    this.#isAway = true;
    this.#log.warn(`no limiter answers (${error.name} ${error.code}): deciding here`);
    this.#later(ask, this.#pauseMs);
  }

  #later(ask, pauseMs) {
    const nextMs = Math.min(LONGEST_PAUSE_MS, pauseMs * 2);
    this.#timer = setTimeout(async () => {
      if (await this.#isBack(ask)) {
        this.#buckets.leave();
        this.#isAway = false;
        this.#log.warn("the limiter is back");
      } else if (this.#timer !== null) {
        this.#later(ask, nextMs);
      }
    }, pauseMs * (0.8 + Math.random() * 0.4));
    this.#timer.unref();
  }

  /** Does it answer, without giving anything, and has it heard what was spent here? */
  async #isBack(ask) {
    try {
      await this.#client.checkBatch([{ ...item(ask), mode: "peek" }], { withinMs: this.#budgetMs });
    } catch (error) {
      if (!(error instanceof Invalid || error instanceof NotFound)) return false;
    }
    for (let round = 0; round < ROUNDS; round += 1) {
      const debits = this.#buckets.debits(this.#clock());
      if (debits.length === 0) return true;
      while (debits.length > 0) {
        const told = await Promise.all(
          debits.splice(0, DEBITS_AT_ONCE).map((debit) => this.#tell(debit)),
        );
        if (!told.every(Boolean)) {
          for (const debit of debits) this.#buckets.putBack(debit);
          return false;
        }
      }
    }
    return true;
  }

  async #tell(debit) {
    const subject = Object.fromEntries(debit.subject);
    if (subject.ip !== undefined) subject.ip = subject.ip.split("/")[0];
    try {
      const how = { reason: REASON, withinMs: DEBIT_WITHIN_MS };
      await this.#client.penalize(debit.policy, subject, debit.cost, how);
    } catch (error) {
      if (error instanceof Unavailable) {
        this.#buckets.putBack(debit);
        return false;
      }
      this.#log.warn(`what was spent of ${debit.policy} is not told: ${error.name} ${error.code}`);
    }
    return true;
  }
}

function asked(policies, subject, cost, priority) {
  const named = typeof policies === "string" ? [policies] : [...policies];
  const said = Object.entries(subject)
    .filter(([name, value]) => value != null && value !== "" && !(name === "shop_verified" && value))
    .map(([name, value]) => [name, name === "shop" ? String(value).toLowerCase() : value])
    .sort(([one], [other]) => (one < other ? -1 : 1));
  const counted = said.map(([name, value]) => [name, name === "ip" ? network(value) : value]);
  const key = JSON.stringify([named, said, cost, priority]);
  return { policies: named, subject: Object.fromEntries(said), counted, cost, priority, key };
}

function item({ policies, subject, cost, priority }) {
  return { policies, subject, cost, priority };
}

/** Their places, from pointers like /items/3/cost. */
function wrongItems(error) {
  const places = error.errors.map((flaw) => /^\/items\/(\d+)(\/|$)/.exec(flaw.pointer ?? ""));
  return new Set(places.filter(Boolean).map((found) => Number(found[1])));
}

/** What is wrong with one item alone. */
function ofItem(error, at) {
  const prefix = `/items/${at}`;
  const errors = error.errors
    .filter(({ pointer }) => pointer === prefix || pointer.startsWith(`${prefix}/`))
    .map((flaw) => ({ ...flaw, pointer: flaw.pointer.slice(prefix.length) }));
  return new error.constructor(error.detail, { status: error.status, code: error.code, errors });
}
