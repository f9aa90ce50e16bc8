/** Whose address counts: the one that the last trusted proxy saw. */

import assert from "node:assert/strict";
import { test } from "node:test";

import { clientAddress, network } from "../../src/addresses.js";

test("the address of a client", () => {
  for (const [peer, claimed, hops, address] of [
    ["192.0.2.1", "203.0.113.9", 0, "192.0.2.1"],
    ["192.0.2.1", "6.6.6.6, 203.0.113.9", 1, "203.0.113.9"],
    ["192.0.2.1", "6.6.6.6, 203.0.113.9, 198.51.100.2", 2, "203.0.113.9"],
    ["192.0.2.1", "203.0.113.9", 2, "192.0.2.1"],
    ["192.0.2.1", undefined, 1, "192.0.2.1"],
    ["192.0.2.1", "nonsense", 1, "192.0.2.1"],
    ["::ffff:192.0.2.1", "", 0, "192.0.2.1"],
    ["192.0.2.1", "[2001:db8::1]:443", 1, "2001:db8:0:0:0:0:0:1"],
    ["192.0.2.1", "203.0.113.9:51515", 1, "203.0.113.9"],
  ]) {
    assert.equal(clientAddress(peer, claimed, hops), address);
  }
});

test("an IPv6 address counts as its network", () => {
  assert.equal(network("2001:db8:0:1:ffff::2"), network("2001:db8:0:1::1"));
  assert.notEqual(network("2001:db8:0:1::1"), network("2001:db8:0:2::1"));
  assert.equal(network("2001:db8:0:1::1"), "2001:db8:0:1::/64");
  assert.equal(network("::ffff:192.0.2.1"), "192.0.2.1");
  assert.equal(network("somebody"), "somebody");
});
