"""What happens to the story's mail: events as programs hand them in, and mails as mail servers do."""

from typing import Any

from guide import postfix

Json = dict[str, Any]

AT = 1_795_700_000
"""When it happened; the same at each run, so that the transcript is, too."""


def _event(event_type: str, who: str, **fields: Any) -> Json:
    return {"event_type": event_type, "event_time": AT, "email": f"{who}@{postfix.CUSTOMERS}", **fields}


_OURS = {"listid": "news", "sendid": "s7"}
_CAMPAIGN = {"studio_mailing_list_id": 3, "studio_subscriber_id": 41, "studio_campaign_id": 12}
_BOUNCE = {"bounce_type": "h", "bounce_code": 10, "bounce_text": "550 5.1.1 user unknown"}

ENGINE_UNSUB = _event("engine_unsub", "unsub", **_OURS, click_url="https://www.exampledomain.com/?leave")
ENGINE_OPEN = _event("engine_open", "open", **_OURS, engine_ip="192.0.2.7")
ENGINE_CLICK = _event("engine_click", "click", **_OURS, click_url="https://www.exampledomain.com/offer")
ENGINE_BOUNCE = _event("bounce_all", "bounce", **_OURS, **_BOUNCE)
ENGINE_BAD_ADDRESS = _event("bounce_bad_address", "bounce", **_OURS, **_BOUNCE)
ENGINE_COMPLAINT = _event("scomp", "complaint", **_OURS)
ENGINE = (ENGINE_UNSUB, ENGINE_OPEN, ENGINE_CLICK, ENGINE_BOUNCE, ENGINE_BAD_ADDRESS, ENGINE_COMPLAINT)

STUDIO_UNSUB = _event("studio_unsub", "studio.unsub", **_CAMPAIGN, studio_is_unique=1)
STUDIO_OPEN = _event("studio_open", "studio.open", **_CAMPAIGN, studio_is_unique=1, studio_ip="192.0.2.8")
STUDIO_CLICK = _event("studio_click", "studio.click", **_CAMPAIGN, click_url="https://www.exampledomain.com/offer")
STUDIO_BOUNCE = _event("bounce_all", "studio.bounce", **_CAMPAIGN, **_BOUNCE)
STUDIO_BAD_ADDRESS = _event("bounce_bad_address", "studio.bounce", **_CAMPAIGN, **_BOUNCE)
STUDIO_COMPLAINT = _event("scomp", "studio.complaint", **_CAMPAIGN)
STUDIO_SUBSCRIBER = _event("studio_subscriber_created", "studio.new", **_CAMPAIGN)
STUDIO = (STUDIO_UNSUB, STUDIO_OPEN, STUDIO_CLICK, STUDIO_BOUNCE, STUDIO_BAD_ADDRESS, STUDIO_COMPLAINT)

ATTEMPT = _event("delivery_attempt", "attempt", **_OURS, channel="remote", status="success", is_retry=0)

NOBODY = f"nobody@{postfix.CUSTOMERS}"
RETURN_PATH = f"b-news-s7-nobody={postfix.CUSTOMERS}@{postfix.BOUNCES}"
MESSAGE = f"""\
From: News <news@exampledomain.com>
To: {NOBODY}
Subject: The news of this week
X-GreenArrow-MailClass: newsletter
X-GreenArrow-Click-Tracking-ID: t1

Hello
"""
