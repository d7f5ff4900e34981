"""A key in what a server sends back is masked, in whatever form, before the text goes anywhere."""

from __future__ import annotations

import base64
import re
from html.entities import codepoint2name
from typing import Any

MASK = "***"
#: Fewer characters are no secret but a word such as EMPTY, for servers that want any key: it would be met by
#: chance, and what is met by chance would be cut out of answers.
SHORTEST = 6
#: From so many on no word is like it in small letters either.
UNLIKE_WORDS = 12


class Mask:
    """Replaces a key in decoded text: as it is, or with any of its characters escaped as JSON, Python, HTML
    or an address would, in capitals or not, or within a base64 text such as Basic's.
    """

    def __init__(self, secret: str) -> None:
        self._pattern: re.Pattern[str] | None = None
        if len(secret) >= SHORTEST:
            forms = [form for form in sorted(_inside_base64(secret), key=len) if len(form) >= SHORTEST]
            escaped = "".join(map(_escaped, secret))
            flags = re.IGNORECASE if len(secret) >= UNLIKE_WORDS else re.NOFLAG
            self._pattern = re.compile("|".join([escaped, *map(re.escape, forms)]), flags)

    def __call__(self, text: str) -> str:
        """The text without the key."""
        return self._pattern.sub(MASK, text) if self._pattern is not None else text

    def all_of(self, value: Any) -> Any:
        """A value as JSON holds it, without the key in any of its texts."""
        if self._pattern is None:
            return value
        if isinstance(value, str):
            return self(value)
        if isinstance(value, dict):
            return {self(key): self.all_of(held) for key, held in value.items()}
        return [self.all_of(held) for held in value] if isinstance(value, list) else value


def _escaped(character: str) -> str:
    """A pattern of a character and of all that it may be written as."""
    code = ord(character)
    number = f"(?i:{code:02x})"
    forms = [rf"\\*{re.escape(character)}", f"%(?:25)?{number}", rf"\\+u00{number}", rf"\\+x{number}"]
    forms += [f"&(?:amp;)?#0*{code};", f"&(?:amp;)?#[xX]0*{number};"]
    if code in codepoint2name:
        forms.append(f"&(?:amp;)?{codepoint2name[code]};")
    return f"(?:{'|'.join(forms)})"


def _inside_base64(secret: str) -> set[str]:
    """What a base64 text that holds the key shows of it, by the three places that it may begin at."""
    forms = set()
    for before in range(3):
        encoded = base64.b64encode(b"\0" * before + secret.encode()).decode().rstrip("=")
        whole = encoded[-(-before * 8 // 6) : (before + len(secret.encode())) * 8 // 6]
        forms |= {whole, whole.replace("+", "-").replace("/", "_")}
    return forms
