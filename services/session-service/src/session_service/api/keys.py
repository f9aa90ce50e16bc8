"""What handlers may use."""

from aiohttp import web

from chassis.kernel.shopify import Shops
from session_service.api.told import Told
from session_service.core.admin import AdminProxy
from session_service.core.audit import HistoryStore
from session_service.core.cleanup import Cleanup
from session_service.core.embedded import Embedded
from session_service.core.oauth import OAuth
from session_service.core.refreshing import Refreshing
from session_service.core.rekeying import Rekeying
from session_service.core.sessions import Sessions
from session_service.core.uninstall import Installations

REFRESHING = web.AppKey("REFRESHING", Refreshing)
TOLD = web.AppKey("TOLD", Told)
SESSIONS = web.AppKey("SESSIONS", Sessions)
INSTALLATIONS = web.AppKey("INSTALLATIONS", Installations)
CLEANUP = web.AppKey("CLEANUP", Cleanup)
HISTORY = web.AppKey("HISTORY", HistoryStore)
REKEYING = web.AppKey("REKEYING", Rekeying)
SHOPS = web.AppKey("SHOPS", Shops)
# Absent while no Shopify app is configured.
OAUTH = web.AppKey("OAUTH", OAuth)
EMBEDDED = web.AppKey("EMBEDDED", Embedded)
ADMIN = web.AppKey("ADMIN", AdminProxy)
