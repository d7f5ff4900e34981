"""A key in what a server sends back is masked, in whatever form, before the text goes anywhere."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote

MASK = "***"
#: A form of a key with fewer characters than this is left alone: it would be met by chance.
SHORTEST = 6


class Mask:
    """Replaces a key in decoded text: as it is, percent-encoded, or within a base64 text such as Basic's."""

    def __init__(self, secret: str) -> None:
        forms = {secret, quote(secret, safe=""), quote(secret)} | _inside_base64(secret)
        known = sorted(
            (form for form in forms if len(form) >= SHORTEST or form == secret), key=len, reverse=True
        )
        self._pattern = re.compile("|".join(map(re.escape, known))) if secret else None

    def __call__(self, text: str) -> str:
        """The text without the key."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text


def _inside_base64(secret: str) -> set[str]:
    """What a base64 text that holds the key shows of it, by the three places that it may begin at."""
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        whole = encoded[-(-before * 8 // 6) : (before + len(secret.encode())) * 8 // 6]
        forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return forms
