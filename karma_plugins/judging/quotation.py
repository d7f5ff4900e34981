"""Quoting what is judged, so that it stays data: it can't end its quotation or pass as a role of the chat."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection

#: Brackets and bars as chat formats write them, or as a tokenizer reads them that makes wide letters plain.
_OPEN, _SHUT, _BAR, _LEFT, _RIGHT = "[<\uff1c]", "[>\uff1e]", "[|\uff5c]", r"[\[\uff3b]", r"[\]\uff3d]"
_PLAIN = r"[^<>\uff1c\uff1e]"
#: Names in angle brackets that are control tokens though nothing else about them is odd.
_NAMES = (
    "s bos eos pad unk cls sep mask sop eop eod eot eoh eoa eom bom think thought reasoning answer tool role "
    "system user assistant human bot ai image img audio video \u7528\u6237"
).replace(" ", "|")
#: The shapes of tokens by which chat formats mark who speaks, and where: a server that renders a template
#: reads them wherever they stand. Better one word of a text broken in vain than a token left whole.
CONTROL = re.compile(
    rf"{_OPEN}{_BAR}{_PLAIN}{{1,60}}?{_BAR}{_SHUT}"  # ChatML, Llama 3, Phi, DeepSeek, gpt-oss
    rf"|{_OPEN}{_BAR}[^<>|\s\u200b]{{1,60}}{_SHUT}|{_OPEN}[^<>|\s\u200b]{{1,60}}{_BAR}{_SHUT}"  # Gemma 4
    rf"|{_LEFT}{_BAR}[^\]\[\s]{{1,60}}?{_BAR}{_RIGHT}"  # EXAONE
    rf"|{_OPEN}/?(?:{_NAMES}){_SHUT}"
    # Gemma 3, T5, Nemotron, Baichuan, Command, TeleChat: a name with an underscore, or a number at its end
    rf"|{_OPEN}/?[a-z]*_[a-z0-9_]{{1,60}}{_SHUT}|{_OPEN}/?[a-z]{{3,40}}\d{{1,6}}{_SHUT}"
    rf"|{_OPEN}/?[a-z]{{2,20}}:[a-z0-9_]{{1,40}}{_SHUT}"  # Seed
    rf"|{_OPEN}0x[0-9a-f]{{2}}{_SHUT}"  # bytes, of SentencePiece
    rf"|{_OPEN}{{2}}/?[a-z_]{{2,20}}{_SHUT}{{2}}|{_SHUT}{{2}}[a-z_]{{2,20}}{_OPEN}{{2}}"  # Llama 2, Falcon
    rf"|{_LEFT}/?(?:(?-i:[A-Z][A-Z0-9_]{{1,40}})|inst|think|[gs]mask|control_\d{{1,6}}){_RIGHT}"
    r"|[\]\[][a-z!]{0,3}~[a-z!]{0,3}[\]\[]",  # MiniMax
    re.IGNORECASE,
)
#: Invisible, and enough to make a control token plain text.
BREAK = "\u200b"


def disarmed(text: str) -> str:
    """The text with every token of a chat format's shape broken by an invisible space, so that it is text."""
    while (broken := CONTROL.sub(_broken, text)) != text:  # one may stand in another
        text = broken
    return text


def without(text: str, tokens: Collection[str]) -> str:
    """The text with these tokens broken likewise: for a tokenizer that can be asked for its own."""
    own = [re.escape(token) for token in sorted(tokens, key=len, reverse=True) if len(token.strip()) > 1]
    pattern = re.compile("|".join(own))
    while own and (broken := pattern.sub(_broken, text)) != text:
        text = broken
    return text


def within_quotes(text: str, case: str, tokens: Collection[str]) -> str:
    """The text of a question with these tokens broken in what it quotes; a template may hold them."""
    quotes = re.compile(rf"^BEGIN [A-Z ]+ {case}\n.*?\nEND [A-Z ]+ {case}$", re.MULTILINE | re.DOTALL)
    return quotes.sub(lambda quote: without(quote[0], tokens), text)


def _broken(token: re.Match[str]) -> str:
    return token[0][0] + BREAK + token[0][1:]


def case_number(*texts: str) -> str:
    """16 hex digits that belong to these texts, stand in none of them, and can't be foreseen by who writes
    one.

    They are a hash of all of them: a text that held its own case number would have another one.
    """
    for attempt in range(1000):
        parts = "\0".join((str(attempt), *texts)).encode("utf-8", "surrogatepass")
        number = hashlib.blake2b(parts, digest_size=8, person=b"karma judge").hexdigest()
        if not any(number in text.lower() for text in texts):
            return number
    raise ValueError("every case number stands in the texts")


def quoted(part: str, text: str, case: str) -> str:
    """A part of what is judged between lines that only its case number makes valid."""
    return f"BEGIN {part} {case}\n{disarmed(text)}\nEND {part} {case}"
