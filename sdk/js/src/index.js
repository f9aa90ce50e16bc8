/** Mainstay for app developers: rate limits so far. */

export { Client } from "./client.js";
export { ApiError, Invalid, Limited, NotFound, Unavailable } from "./errors.js";
export { Limiter } from "./limiter.js";
export { rateLimit } from "./express.js";
export { clientAddress } from "./addresses.js";
