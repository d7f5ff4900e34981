"""What LLM judges are asked: template files with a system and a user part, to copy and edit."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from karma_plugins.errors import PluginError, did_you_mean

FOLDER = Path(__file__).parent
PLACE = re.compile(r"\{\{\s*(\w+)\s*\}\}")
PARTS = re.compile(r"\A\s*\[system\]\n(?P<system>.*?)^\[user\]\n(?P<user>.*)\Z", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Template:
    """A template's two parts, with places such as `{{answer}}` to be filled."""

    system: str
    user: str

    def filled(self, values: Mapping[str, str]) -> list[dict[str, str]]:
        """The conversation to send, without a part that is blank; what is filled in is not searched for
        places.
        """
        parts = (("system", self.system), ("user", self.user))
        return [
            {"role": role, "content": PLACE.sub(lambda match: values[match[1]], part).strip()}
            for role, part in parts
            if part.strip()
        ]


@dataclass(frozen=True, slots=True)
class Form:
    """A built-in template, and the places that one in its stead must have (`needed`) or may have."""

    file: str
    needed: tuple[str, ...]
    optional: tuple[str, ...] = ("reference",)

    def path(self, instead: str | None = None) -> Path:
        """Where the built-in template lies, or the one that a user names instead."""
        return Path(instead) if instead else FOLDER / self.file

    def read(self, instead: str | None = None) -> Template:
        """The template.

        Raises PluginError where its file is missing, has no [system] and [user] part, lacks a needed place or
        names an unknown one.
        """
        path, known = self.path(instead), (*self.needed, *self.optional)
        if not path.is_file():
            raise PluginError(
                f"{path}: no such template. Copy one of {FOLDER.name}/*.md of judges and edit it."
            )
        try:
            parts = PARTS.match(path.read_text(encoding="utf-8-sig"))
        except UnicodeDecodeError:
            raise PluginError(f"{path}: not UTF-8. Save the template as UTF-8.") from None
        if parts is None:
            raise PluginError(
                f"{path}: a template has a line [system], its text, a line [user] and its text."
            )
        places = set(PLACE.findall(parts["system"] + parts["user"]))
        for place in sorted(places - set(known)):
            raise PluginError(f"{path}: unknown place '{{{{{place}}}}}'.{did_you_mean(place, known)}")
        for place in sorted(set(self.needed) - places):
            raise PluginError(f"{path}: place '{{{{{place}}}}}' is missing. A judge can't do without it.")
        return Template(parts["system"], parts["user"])
