"""What Twilio would say: its checks, its error numbers, its message resource. Pure."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email.utils import format_datetime
from typing import Any

BODY_MAX = 1600
E164 = re.compile(r"\+[1-9][0-9]{6,14}")
SENDER = re.compile(r"\+[1-9][0-9]{6,14}|[0-9]{5,6}|(?=.*[A-Za-z])[A-Za-z0-9 +&_-]{1,11}")
SERVICE_SID = re.compile(r"MG[0-9a-f]{32}")

# GSM 03.38: one septet each, and those that cost two.
GSM = frozenset(
    "@£$¥èéùìòÇ\nØø\rÅåΔ_ΦΓΛΩΠΨΣΘΞÆæßÉ !\"#¤%&'()*+,-./0123456789:;<=>?¡ABCDEFGHIJKLMNOPQRSTUVWXYZ"
    "ÄÖÑÜ§¿abcdefghijklmnopqrstuvwxyzäöñüà"
)
GSM_DOUBLE = frozenset("\f^{}\\[~]|€")


@dataclass(frozen=True, slots=True)
class Refusal:
    """An answer in Twilio's error form."""

    code: int
    message: str
    status: int = 400

    def document(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "message": self.message,
            "more_info": f"https://www.twilio.com/docs/errors/{self.code}",
            "status": self.status,
        }


UNAUTHENTICATED = Refusal(20003, "Authenticate", 401)
NOT_FOUND = Refusal(20404, "The requested resource was not found", 404)
THROTTLED = Refusal(20429, "Too Many Requests", 429)
FAILED = Refusal(20500, "Internal Server Error", 500)


def refuse(form: Mapping[str, str]) -> Refusal | None:
    """The first thing that is wrong with a message to be made, in Twilio's order."""
    to, sender = form.get("To", ""), form.get("From", "")
    service, body = form.get("MessagingServiceSid", ""), form.get("Body", "")
    if not to:
        return Refusal(21604, "A 'To' phone number is required.")
    if not E164.fullmatch(to):
        return Refusal(21211, f"Invalid 'To' Phone Number: {to[:20]}")
    if not sender and not service:
        return Refusal(21603, "A 'From' phone number is required.")
    if service and not SERVICE_SID.fullmatch(service):
        return Refusal(21701, "The Messaging Service does not exist", 404)
    if sender and not SENDER.fullmatch(sender):
        return Refusal(21212, f"Invalid From Number (caller ID): {sender[:20]}")
    if not body:
        return Refusal(21602, "Message body is required.")
    if len(body) > BODY_MAX:
        return Refusal(21617, "The concatenated message body exceeds the 1600 character limit.")
    return None


def segments(body: str) -> int:
    """How many messages of 140 octets the text takes on the air."""
    if all(char in GSM or char in GSM_DOUBLE for char in body):
        units = sum(2 if char in GSM_DOUBLE else 1 for char in body)
        single, joined = 160, 153
    else:
        units = len(body.encode("utf-16-le")) // 2
        single, joined = 70, 67
    return 1 if units <= single else -(-units // joined)


def resource(form: Mapping[str, str], *, sid: str, account: str, now: datetime) -> dict[str, Any]:
    """A message that has just been accepted."""
    uri = f"/2010-04-01/Accounts/{account}/Messages/{sid}"
    said = format_datetime(now)
    return {
        "account_sid": account,
        "api_version": "2010-04-01",
        "body": form["Body"],
        "date_created": said,
        "date_sent": None,
        "date_updated": said,
        "direction": "outbound-api",
        "error_code": None,
        "error_message": None,
        "from": form.get("From") or None,
        "messaging_service_sid": form.get("MessagingServiceSid") or None,
        "num_media": "0",
        "num_segments": str(segments(form["Body"])),
        "price": None,
        "price_unit": "USD",
        "sid": sid,
        "status": "queued",
        "subresource_uris": {"media": f"{uri}/Media.json"},
        "to": form["To"],
        "uri": f"{uri}.json",
    }
