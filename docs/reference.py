"""Write the reference of the settings and of the commands, as Markdown, from what reads them.

Types, bounds and allowed values come from the pydantic models; defaults and descriptions from nextday.toml, whose
values the tests compare with the models; commands, arguments and options from typer.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from html import escape
from inspect import cleandoc
from typing import Any, Final

from typer.main import get_command

from flows.cli.app import app
from pipeline.config import Config

_SECTION: Final = re.compile(r"\[(\w+)\](?:\s+# (.*))?")
_KEY: Final = re.compile(r"""(\w+) = ((?:"[^"]*"|[^"#])*?)(?:\s+# (.*))?""")
_COMMENT: Final = re.compile(r"\s*# (.*)")
_VALUE: Final = re.compile(r"[\w.+:]+(?: \| \w+)*: ")
"""How a line of a comment begins that explains one value."""

_BOUNDS: Final = {
    "minimum": "at least",
    "exclusiveMinimum": "above",
    "maximum": "at most",
    "exclusiveMaximum": "below",
}


@dataclass
class Described:
    """A section of nextday.toml, or a key of one: its value as it is written, and the lines of its comment."""

    name: str
    value: str = ""
    lines: list[str] = field(default_factory=list)
    keys: list["Described"] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The comment as Markdown: a paragraph, or an item for each line that explains one value if several do."""
        has_items = sum(_VALUE.match(line) is not None for line in self.lines) > 1
        parts = [""]
        for line in self.lines:
            if has_items and (found := _VALUE.match(line)):
                parts.append(f"- `{found[0][:-2]}`: {_to_markdown(line[found.end() :].strip())}")
            else:
                parts[-1] += f" {_to_markdown(line)}"
        lead = parts[0].strip()
        if re.match(r"[a-z]+([ ,]|: |$)", lead):
            lead = lead[0].upper() + lead[1:]
        return "\n\n".join(filter(None, [lead, "\n".join(parts[1:])]))


def read_settings(text: str) -> list[Described]:
    """Return the sections of a nextday.toml as they are described there; the first, without a name, is its head."""
    sections = [Described("")]
    last = sections[0]
    for line in text.splitlines():
        if found := _SECTION.fullmatch(line):
            sections.append(last := Described(found[1]))
        elif found := _KEY.fullmatch(line):
            sections[-1].keys.append(last := Described(found[1], found[2]))
        else:
            found = _COMMENT.fullmatch(line)
        if found and found[found.re.groups]:
            last.lines.append(found[found.re.groups])
    return sections


def write_settings(text: str) -> str:
    """Return the page of all settings.

    Args:
        text: nextday.toml with every setting.
    """
    head, *sections = read_settings(text)
    schema = Config.model_json_schema()
    parts = ["# Settings", _to_markdown(" ".join(head.lines))]
    for section in sections:
        described = schema["$defs"][schema["properties"][section.name]["$ref"].rpartition("/")[2]]
        parts += [f"## [{section.name}] {{ #{section.name} }}", section.text or described["description"]]
        for key in section.keys:
            kind = describe_type(described["properties"][key.name])
            parts += [
                f"### `{key.name}` {{ #{section.name}-{key.name} }}",
                f"{kind[0].upper()}{kind[1:]}. Default: `{key.value}`",
                key.text,
            ]
    return "\n\n".join(parts) + "\n"


def describe_type(schema: dict[str, Any]) -> str:
    """Return the type of a setting, in the words of TOML, with its bounds or allowed values."""
    if "enum" in schema:
        return "one of " + ", ".join(f'`"{value}"`' for value in schema["enum"])
    if "anyOf" in schema:
        kinds = list(dict.fromkeys(describe_type(each) for each in schema["anyOf"]))
        return ", ".join(kinds[:-1]) + f" or {kinds[-1]}"
    if "prefixItems" in schema:
        return (
            f"array of {len(schema['prefixItems'])}: {'; '.join(map(describe_type, schema['prefixItems']))}"
        )
    if schema["type"] == "array":
        most = f"at most {schema['maxItems']} items, " if "maxItems" in schema else ""
        return f"array, {most}each {describe_type(schema['items'])}"
    if schema["type"] == "object":
        (values,) = schema.get("patternProperties", {"": schema.get("additionalProperties")}).values()
        return f"table, each value {describe_type(values)}"
    names = {"boolean": "Boolean", "integer": "integer", "number": "float", "null": "an empty string"}
    name = names.get(schema["type"]) or schema.get("format") or "string"
    bounds = [f"{word} {schema[key]:,}" for key, word in _BOUNDS.items() if key in schema]
    return ", ".join([name, *bounds])


def write_commands() -> str:
    """Return the page of all commands with their arguments and options."""
    root = get_command(app)
    context = root.context_class(root, info_name="nextday")
    head = [
        "# Commands",
        _describe(root.help),
        "## Options of every command",
        *_list_parameters(root, context),
    ]
    return "\n\n".join([*head, *_write_group(root, context)]) + "\n"


def _write_group(group: Any, context: Any) -> Iterator[str]:
    for name, command in group.commands.items():
        inside = command.context_class(command, context, name)
        yield f"## {inside.command_path}"
        if hasattr(command, "commands"):
            yield _describe(command.help)
            yield from _write_group(command, inside)
            continue
        yield f"```\n{inside.command_path} {' '.join(command.collect_usage_pieces(inside))}\n```"
        yield _describe(command.help)
        yield from _list_parameters(command, inside)


def _list_parameters(command: Any, context: Any) -> Iterator[str]:
    records = [each.get_help_record(context) for each in command.params if "--help" not in each.opts]
    items = [f"- `{names}`: {_describe(text)}" for names, text in filter(None, records)]
    if items:
        yield "\n".join(items)


def _describe(text: str | None) -> str:
    """Return a help text; typer writes at its end what is required, and defaults, in brackets."""
    text = cleandoc(text or "").replace("  [required]", " Required.")
    return _to_markdown(
        re.sub(r"\s+\[default: (.*)\]$", lambda found: f" Default: {re.sub('[()]', '', found[1])}.", text)
    )


def _to_markdown(text: str) -> str:
    """Return text whose pages are links and whose brackets and stars stand for themselves outside of `code`."""
    parts = re.split(r"(`[^`]*`)", text)
    for place in range(0, len(parts), 2):
        plain = escape(parts[place], quote=False)
        parts[place] = re.sub(r"\bdocs/(\w+\.md)", r"[\1](\1)", plain)
    return "".join(parts)
