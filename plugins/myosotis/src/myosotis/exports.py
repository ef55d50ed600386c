"""A graph as text for other programs: JSON, DOT (Graphviz) and GraphML."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from myosotis.traversal import targets
from myosotis.values import Ref

if TYPE_CHECKING:
    from myosotis.view import View


def json_value(value: Any) -> Any:
    """A value as JSON has it; a reference is `{"@": id}`, and a map whose only key is "@" lies in another one."""
    if type(value) is Ref:
        return {"@": value.id}
    if type(value) is list:
        return [json_value(item) for item in value]
    if type(value) is dict:
        entries = {key: json_value(value[key]) for key in sorted(value)}
        return {"@": entries} if list(entries) == ["@"] else entries
    return value


def from_json_value(value: Any) -> Any:
    """The value that json_value() made this of."""
    if type(value) is list:
        return [from_json_value(item) for item in value]
    if type(value) is not dict:
        return value
    if list(value) == ["@"]:
        inner = value["@"]
        if type(inner) is int:
            return Ref(inner)
        value = inner if type(inner) is dict else value
    return {key: from_json_value(item) for key, item in value.items()}


def shown(value: Any) -> str:
    """A value for people, as the command line reads it: a reference is `@id`, everything else is JSON."""
    return f"@{value.id}" if type(value) is Ref else json.dumps(json_value(value), ensure_ascii=False)


def export(view: View, form: str) -> str:
    """The graph in one of FORMS. ValueError."""
    if form not in FORMS:
        raise ValueError(f"There is no form {form!r}. Use one of {', '.join(FORMS)}.")
    return FORMS[form](view)


def to_json(view: View) -> str:
    """`{"<id>": {"type", "fields", "deleted"}}`, ids ascending."""
    graph = {
        str(node_id): {
            "type": node["type"],
            "fields": {key: json_value(value) for key, value in node["fields"].items()},
            "deleted": node["deleted"],
        }
        for node_id, node in view.to_dict().items()
    }
    return json.dumps(graph, ensure_ascii=False, indent=2) + "\n"


def _scalar(value: Any) -> str:
    return json.dumps(json_value(value), ensure_ascii=False)


def _quoted(text: str) -> str:
    """A string of DOT, in which a backslash and a quote are escaped and nothing else."""
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def to_dot(view: View) -> str:
    """A digraph: nodes with type and fields as their label, an edge for each reference; tombstones dashed."""
    lines = ["digraph memory {"]
    for node_id in view.ids():
        node = view.get(node_id)
        fields = [f"{key} = {_scalar(node.fields[key])}" for key in sorted(node.fields)]
        style = ", style=dashed" if node.deleted else ""
        lines.append(f"  n{node_id} [label={_quoted(chr(10).join([f'{node.type} {node_id}', *fields]))}{style}];")
    for node_id in view.ids():
        for path, target in targets(view.get(node_id)):
            lines.append(f"  n{node_id} -> n{target} [label={_quoted(path)}];")
    return "\n".join([*lines, "}"]) + "\n"


def _xml(text: str) -> str:
    """Text with what XML 1.0 cannot hold shown as in JSON."""
    return "".join(
        char if char in "\t\n\r" or char >= " " and char not in "\ufffe\uffff" else f"\\u{ord(char):04x}"
        for char in text
    )


def to_graphml(view: View) -> str:
    """GraphML: type, fields (as JSON) and deleted of each node, the path of each reference."""
    keys = [("type", "node", "string"), ("fields", "node", "string"), ("deleted", "node", "boolean")]
    lines = ['<?xml version="1.0" encoding="UTF-8"?>', '<graphml xmlns="http://graphml.graphdrawing.org/xmlns">']
    for name, domain, kind in [*keys, ("path", "edge", "string")]:
        lines.append(f'  <key id="{name}" for="{domain}" attr.name="{name}" attr.type="{kind}"/>')
    lines.append('  <graph id="memory" edgedefault="directed">')
    for node_id in view.ids():
        node = view.get(node_id)
        values = {"type": node.type, "fields": _scalar(node.fields), "deleted": str(node.deleted).lower()}
        data = "".join(f'<data key="{key}">{escape(_xml(value))}</data>' for key, value in values.items())
        lines.append(f'    <node id="n{node_id}">{data}</node>')
    for node_id in view.ids():
        for path, target in targets(view.get(node_id)):
            data = f"<data key={quoteattr('path')}>{escape(_xml(path))}</data>"
            lines.append(f'    <edge source="n{node_id}" target="n{target}">{data}</edge>')
    return "\n".join([*lines, "  </graph>", "</graphml>"]) + "\n"


FORMS: dict[str, Callable[[View], str]] = {"json": to_json, "dot": to_dot, "graphml": to_graphml}
