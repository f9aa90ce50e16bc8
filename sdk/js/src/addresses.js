/** Whose request it is when proxies stand in front, and what limits count by. */

import { isIP } from "node:net";

/**
 * The client's address: with 0 trusted hops the peer, whatever a header claims; with N the N-th from
 * the right of X-Forwarded-For. A shorter or unreadable header did not come through our proxies, so
 * the peer is all we know.
 */
export function clientAddress(peer, forwardedFor, trustedHops) {
  const claimed = (forwardedFor ?? "").split(",").map((part) => part.trim()).filter(Boolean);
  if (trustedHops === 0 || claimed.length < trustedHops) return plain(peer) ?? peer;
  return plain(claimed[claimed.length - trustedHops]) ?? plain(peer) ?? peer;
}

/** An IPv4 address, or the /64 of an IPv6 one; anything else as it is. */
export function network(address) {
  const found = plain(address);
  if (found === null || !found.includes(":")) return found ?? address;
  return `${found.split(":").slice(0, 4).join(":")}::/64`;
}

/** An address without port, brackets, zone and IPv4-in-IPv6 dress; IPv6 in eight groups. */
function plain(text) {
  let address = String(text ?? "");
  if (address.startsWith("[")) address = address.slice(1).split("]")[0];
  else if (address.split(":").length === 2) address = address.split(":")[0];
  address = address.split("%")[0];
  const version = isIP(address);
  if (version !== 6) return version === 4 ? address : null;
  const groups = expanded(address.toLowerCase());
  const isMapped = groups.slice(0, 5).every((one) => one === 0) && groups[5] === 0xffff;
  if (isMapped) {
    return [groups[6] >> 8, groups[6] & 255, groups[7] >> 8, groups[7] & 255].join(".");
  }
  return groups.map((one) => one.toString(16)).join(":");
}

function expanded(address) {
  const dotted = address.match(/(\d+)\.(\d+)\.(\d+)\.(\d+)$/);
  if (dotted !== null) {
    const [a, b, c, d] = dotted.slice(1).map(Number);
    const tail = `${(a * 256 + b).toString(16)}:${(c * 256 + d).toString(16)}`;
    return expanded(address.slice(0, dotted.index) + tail);
  }
  const [head, tail] = address.split("::").map((side) => side.split(":").filter(Boolean));
  if (tail === undefined) return head.map((one) => Number.parseInt(one, 16));
  const gap = Array(8 - head.length - tail.length).fill("0");
  return [...head, ...gap, ...tail].map((one) => Number.parseInt(one, 16));
}
