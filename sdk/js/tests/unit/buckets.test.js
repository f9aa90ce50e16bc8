/** Deciding without a limiter: by a share of what was seen, half of what never was. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { Buckets } from "../../src/buckets.js";

const SHOP = [["shop", "a.myshopify.com"]];
const OTHER = [["shop", "b.myshopify.com"]];

function seen(remaining, more = {}) {
  return { policy: "api", limit: 10, remaining, reset_ms: 0, window_s: 100, shadow: false, ...more };
}

function passed(some, times, now, subject = SHOP) {
  let count = 0;
  for (let n = 0; n < times; n += 1) count += some.take(["api"], subject, 1, now).allowed ? 1 : 0;
  return count;
}

test("a key goes on where it was seen, divided by the replicas", () => {
  for (const [replicas, left, passes] of [[1, 7, 7], [2, 6, 3], [3, 10, 3], [1, 0, 0]]) {
    const some = new Buckets({ replicas });
    some.see(SHOP, [seen(left)], 0);
    assert.equal(passed(some, 20, 0), passes);
  }
});

test("what was seen long ago has refilled since, at the share of the rate", () => {
  const some = new Buckets({ replicas: 2 });
  some.see(SHOP, [seen(0)], 0);
  assert.equal(passed(some, 5, 20_000), 1);
  const { waitMs } = some.take(["api"], SHOP, 1, 20_000);
  assert.ok(waitMs > 0 && waitMs <= 20_000);
});

test("a key that was never seen starts half full, and a policy that nobody knows lets pass", () => {
  const some = new Buckets();
  assert.equal(passed(some, 500, 0), 500);
  some.see(SHOP, [seen(10)], 0);
  assert.equal(passed(some, 20, 0, OTHER), 5);
});

test("a quota is not refilled before its window ends", () => {
  const some = new Buckets();
  some.see(SHOP, [seen(0, { limit: 100, window_s: 86_400, reset_ms: 3_600_000 })], 0);
  assert.equal(passed(some, 5, 3_599_000), 0);
  assert.equal(passed(some, 200, 3_601_000), 100);
  assert.equal(passed(some, 5, 50_000_000), 0);
});

test("a cost beyond the share passes once; one beyond the limit never", () => {
  const some = new Buckets({ replicas: 5 });
  some.see(SHOP, [seen(10)], 0);
  assert.ok(some.take(["api"], SHOP, 8, 0).allowed);
  assert.ok(!some.take(["api"], SHOP, 1, 0).allowed);
  assert.ok(some.take(["api"], SHOP, 11, 1e9).unsatisfiable);
});

test("several policies pass together or take nothing", () => {
  const some = new Buckets({
    rates: { wide: { perS: 1, burst: 20 }, narrow: { perS: 0.001, burst: 2 } },
  });
  assert.ok(some.take(["wide", "narrow"], SHOP, 1, 0).allowed);
  assert.deepEqual(
    some.take(["wide", "narrow"], SHOP, 1, 0).limits.map((one) => one.violated), [false, true],
  );
  assert.equal(some.take(["wide"], SHOP, 1, 0).limits[0].remaining, 8);
});

test("what was spent here is told once, less what has drained", () => {
  const some = new Buckets();
  some.see(SHOP, [seen(8)], 0);
  passed(some, 4, 0);
  assert.deepEqual(some.debits(0).map(({ cost, subject }) => [cost, subject]), [[4, SHOP]]);
  assert.deepEqual(some.debits(0), []);
  passed(some, 2, 0);
  const [debit] = some.debits(70_000);
  assert.equal(debit.cost, 1);
  some.putBack(debit);
  assert.equal(some.debits(70_000)[0].cost, 1);
});

test("ten thousand addresses leave it as small as it is", () => {
  const some = new Buckets({ capacity: 100 });
  for (let n = 0; n < 10_000; n += 1) {
    const subject = [["ip", `10.0.${n >> 8}.${n & 255}`]];
    some.see(subject, [seen(1)], 0);
    some.take(["api"], subject, 1, 0);
  }
  assert.equal(some.size, 200);
});
