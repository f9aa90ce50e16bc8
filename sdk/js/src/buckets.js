/**
 * Limits in this process, for the time when no limiter answers: a share of what was last seen.
 *
 * A bucket starts where the last answer left it, divided by the replicas that share it; one that was
 * never seen starts half full. What is spent here is remembered, to be told when the limiter is back.
 */

const CAPACITY = 20_000;
// What a key that was never seen may have left.
const UNSEEN = 0.5;
const DUST = 1e-9;

/** `ends`: a quota of the calendar, full again at once by our clock; else it refills steadily. */
function paceOf(state, now, known) {
  const windowMs = 1000 * Math.max(1, state.window_s);
  const limit = Math.max(1, state.limit);
  // Of a bucket, one more is free within a token's time.
  let ends = state.reset_ms > windowMs / limit + 1 ? now + state.reset_ms : null;
  if (ends === null && known?.ends != null) ends = known.ends > now ? known.ends : now + windowMs;
  return { limit, windowMs, shadow: Boolean(state.shadow), ends };
}

/** In tokens: `spent` of our share; `owed` of the whole, with what others had taken (`seed`). */
class Bucket {
  constructor(pace, replicas, at, spent, seed) {
    Object.assign(this, { pace, replicas, at, owed: seed, seed });
    this.share = Math.max(1, pace.limit / replicas);
    this.perMs = pace.limit / pace.windowMs / replicas;
    this.spent = Math.min(spent, this.share);
  }

  asOf(now) {
    const { pace } = this;
    const back = Math.max(0, now - this.at) * this.perMs;
    this.at = now;
    if (pace.ends === null) {
      this.spent = Math.max(0, this.spent - back);
      this.owed = Math.max(0, this.owed - back * this.replicas);
      this.seed = Math.max(0, this.seed - back * this.replicas);
    } else if (now >= pace.ends) {
      pace.ends += (Math.floor((now - pace.ends) / pace.windowMs) + 1) * pace.windowMs;
      this.spent = this.owed = this.seed = 0;
    }
    return this;
  }

  /** More than our share fits, once nothing is spent: it may be what one request costs. */
  fits(cost) {
    if (this.pace.shadow || this.spent + cost <= this.share + DUST) return true;
    return cost <= this.pace.limit && this.spent <= DUST;
  }

  take(cost) {
    this.spent += cost;
    this.owed += cost;
  }

  waitMs(cost) {
    if (this.pace.ends !== null) return Math.max(0, this.pace.ends - this.at);
    return Math.max(0, this.spent + Math.min(cost, this.share) - this.share) / this.perMs;
  }

  state(policy, cost, fits) {
    const { limit, windowMs, shadow } = this.pace;
    return {
      policy,
      limit,
      remaining: Math.max(0, Math.floor(this.share - this.spent + DUST)),
      reset_ms: this.spent <= 0 ? 0 : Math.ceil(this.waitMs(1)),
      window_s: Math.ceil(windowMs / 1000),
      violated: !fits || (shadow && this.spent + cost > this.share),
      shadow,
    };
  }
}

/** Bounded: past `capacity` the key that was met longest ago is forgotten. Times in milliseconds. */
export class Buckets {
  #replicas;
  #capacity;
  #paces = new Map();
  #seen = new Map();
  #buckets = new Map();

  constructor({ replicas = 1, rates = {}, capacity = CAPACITY } = {}) {
    this.#replicas = replicas;
    this.#capacity = capacity;
    for (const [policy, { perS, burst }] of Object.entries(rates)) {
      const windowMs = (1000 * burst) / perS;
      this.#paces.set(policy, { limit: burst, windowMs, shadow: false, ends: null });
    }
  }

  get size() {
    return this.#seen.size + this.#buckets.size;
  }

  /** What the limiter said; it is right, whatever was thought here. */
  see(subject, states, now) {
    for (const state of states) {
      const key = keyOf(state.policy, subject);
      this.#paces.set(state.policy, paceOf(state, now, this.#paces.get(state.policy)));
      this.#keep(this.#seen, key, { at: now, state });
    }
  }

  /** All of them, or nothing. A policy that nobody knows anything of lets pass. */
  take(policies, subject, cost, now) {
    const found = policies
      .map((policy) => ({ policy, bucket: this.#bucket(policy, subject, now) }))
      .filter(({ bucket }) => bucket !== null)
      .map((one) => ({ ...one, fits: one.bucket.fits(cost) }));
    const refusing = found.filter(({ fits }) => !fits);
    const allowed = refusing.length === 0;
    if (allowed) for (const { bucket } of found) bucket.take(cost);
    return {
      allowed,
      limits: found.map(({ policy, bucket, fits }) => bucket.state(policy, allowed ? 0 : cost, fits)),
      waitMs: Math.max(0, ...refusing.map(({ bucket }) => bucket.waitMs(cost))),
      unsatisfiable: refusing.some(({ bucket }) => cost > bucket.pace.limit),
    };
  }

  /** What was spent here and has not drained since, the largest first; each is told once. */
  debits(now) {
    const owing = [...this.#buckets]
      .map(([key, bucket]) => ({ key, bucket: bucket.asOf(now) }))
      .filter(({ bucket }) => bucket.owed - bucket.seed > 1e-6)
      .map(({ key, bucket }) => ({ key, cost: Math.ceil(bucket.owed - bucket.seed - 1e-6), bucket }))
      .sort((one, other) => other.cost - one.cost);
    for (const { bucket } of owing) bucket.seed = bucket.owed;
    return owing.map(({ key, cost }) => {
      const [policy, subject] = JSON.parse(key);
      return { key, policy, subject, cost };
    });
  }

  /** It could not be told. */
  putBack({ key, cost }) {
    const bucket = this.#buckets.get(key);
    if (bucket !== undefined) bucket.seed = Math.max(0, bucket.seed - cost);
  }

  /** The limiter decides again. */
  leave() {
    this.#buckets.clear();
  }

  #bucket(policy, subject, now) {
    const key = keyOf(policy, subject);
    const bucket = this.#buckets.get(key) ?? this.#made(policy, key, now);
    if (bucket === null) return null;
    this.#keep(this.#buckets, key, bucket);
    return bucket.asOf(now);
  }

  #made(policy, key, now) {
    const known = this.#paces.get(policy);
    const seen = this.#seen.get(key);
    if (seen !== undefined) {
      const pace = paceOf(seen.state, seen.at, known);
      const gone = Math.max(0, pace.limit - seen.state.remaining);
      return new Bucket(pace, this.#replicas, seen.at, gone / this.#replicas, gone);
    }
    if (known === undefined) return null;
    const bucket = new Bucket({ ...known }, this.#replicas, now, 0, 0);
    bucket.spent = Math.max(0, Math.min(bucket.share * UNSEEN, bucket.share - 1));
    return bucket;
  }

  #keep(kept, key, value) {
    kept.delete(key);
    kept.set(key, value);
    if (kept.size > this.#capacity) kept.delete(kept.keys().next().value);
  }
}

function keyOf(policy, subject) {
  return JSON.stringify([policy, subject]);
}
