"""One key per use case, and what a request carries once it is through the door."""

import asyncio
from collections.abc import Mapping

from aiohttp import web

from gateway.core import (
    admission,
    api_keys,
    auth,
    authenticate,
    caching,
    circuits,
    enqueue,
    in_motion,
    keys,
    notices,
    ports,
    queues,
    system,
    webhooks,
)

AUTHENTICATE = web.AppKey("AUTHENTICATE", authenticate.Authenticate)
ADMISSION = web.AppKey("ADMISSION", admission.Admission)
TRUSTED_HOPS = web.AppKey("TRUSTED_HOPS", int)
API_KEYS = web.AppKey("API_KEYS", api_keys.ApiKeys)
ENQUEUE = web.AppKey("ENQUEUE", enqueue.Enqueue)
FIND_JOB = web.AppKey("FIND_JOB", in_motion.FindJob)
IN_MOTION = web.AppKey("IN_MOTION", in_motion.InMotion)
QUEUES = web.AppKey("QUEUES", queues.Queues)
AUTH_APP = web.AppKey("AUTH_APP", auth.AuthApp)
AUTHORIZATIONS = web.AppKey("AUTHORIZATIONS", auth.Authorizations)
SHOPIFY_APP = web.AppKey("SHOPIFY_APP", webhooks.ShopifyApp)
TELL = web.AppKey("TELL", notices.Tell)
OWNERS = web.AppKey("OWNERS", Mapping[str, ports.Owner])
CACHED = web.AppKey("CACHED", caching.Cached)
SYSTEM = web.AppKey("SYSTEM", system.System)
CIRCUITS = web.AppKey("CIRCUITS", circuits.Circuits)
EVENT_LOG = web.AppKey("EVENT_LOG", ports.EventLog)
STREAMS = web.AppKey("STREAMS", asyncio.Semaphore)
DOCUMENT = web.AppKey("DOCUMENT", dict)

IDENTITY = web.RequestKey("IDENTITY", keys.Identity)
DEGRADED = web.RequestKey("DEGRADED", str)
