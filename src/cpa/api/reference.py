"""`/docs`: the OpenAPI document as one page, made here.

Nothing is fetched from elsewhere and no script runs, so it works without internet, with a keyboard and with a
screen reader, and it can be printed. Made once, when first asked for.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.responses import HTMLResponse, RedirectResponse

_POLICY: Final = (
    "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'"
)
_STYLE: Final = """
:root { color-scheme: light dark; --line: #8886; --soft: #8881; --link: light-dark(#0a53a8, #8cc2ff) }
* { box-sizing: border-box }
body { margin: 0; font: 16px/1.5 system-ui, sans-serif }
a { color: var(--link) }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px }
.skip { position: absolute; left: -999rem } .skip:focus { position: static }
.page { display: grid; grid-template-columns: minmax(13rem, 18rem) minmax(0, 1fr); gap: 2rem; max-width: 90rem;
  margin: 0 auto; padding: 1rem 1.5rem }
nav { position: sticky; top: 0; align-self: start; max-height: 100vh; overflow: auto; font-size: .9rem }
nav ul { list-style: none; margin: 0 0 .8rem; padding: 0 } nav h2 { font-size: 1rem; margin: .6rem 0 .2rem }
article { border: 1px solid var(--line); border-radius: .5rem; margin: .8rem 0; padding: 0 1rem .8rem }
article:target { border-color: var(--link) } h3 { font-size: 1rem } h4 { margin: .8rem 0 .2rem }
code, pre { font-family: ui-monospace, monospace; font-size: .9em }
pre { background: var(--soft); padding: .7rem; border-radius: .4rem; overflow: auto }
.scroll { overflow: auto } table { border-collapse: collapse; width: 100% }
th, td { text-align: left; vertical-align: top; padding: .3rem .8rem .3rem 0; border-top: 1px solid var(--line) }
@media (max-width: 50rem) { .page { grid-template-columns: 1fr } nav { position: static; max-height: none } }
"""


def install(app: FastAPI) -> None:
    """Offer the page at `/docs`, without a key: it says what the document says, and that is public.

    `/` leads there: it is what somebody types who was given the address of a server.
    """
    made: list[str] = []

    @app.get("/docs", include_in_schema=False)
    async def docs(_request: Request) -> HTMLResponse:
        if not made:
            made.append(page(app.openapi()))
        return HTMLResponse(made[0], headers={"Content-Security-Policy": _POLICY})

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("docs")


def page(document: Mapping[str, Any]) -> str:
    """The whole document as HTML, by tag in its order."""
    info, by_tag = document["info"], _by_tag(document)
    name = escape(str(info["title"]))
    contents = "".join(
        f"<h2>{escape(tag)}</h2><ul>"
        + "".join(
            f'<li><a href="#{_anchor(*each[:2])}">{escape(each[2]["summary"])}</a></li>' for each in found
        )
        + "</ul>"
        for tag, (_, found) in by_tag.items()
    )
    body = "".join(
        f"<section><h2>{escape(tag)}</h2>{_prose(about)}{''.join(_operation(*each) for each in found)}</section>"
        for tag, (about, found) in by_tag.items()
    )
    schemas = "".join(
        _schema(each, schema) for each, schema in sorted(document["components"]["schemas"].items())
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name} API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><link rel="icon" href="data:,">
<style>{_STYLE}</style></head>
<body><a class="skip" href="#content">Skip to content</a><div class="page">
<nav aria-label="Contents">{contents}<h2><a href="#models">models</a></h2></nav>
<main id="content"><h1>{name} API <small>{escape(str(info["version"]))}</small></h1>
{_prose(info.get("description", ""))}
<p>For programs: <a href="/openapi.json">openapi.json</a>. Live: <code>WS /ws/jobs/{{id}}?last_seq=N</code>.</p>
{body}<section id="models"><h2>models</h2>{schemas}</section></main></div></body></html>
"""


_Found = tuple[str, str, Mapping[str, Any]]


def _by_tag(document: Mapping[str, Any]) -> dict[str, tuple[str, list[_Found]]]:
    found: dict[str, tuple[str, list[_Found]]] = {
        tag["name"]: (tag.get("description", ""), []) for tag in document["tags"]
    }
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            for tag in operation.get("tags", ()):
                found.setdefault(tag, ("", []))[1].append((method, path, operation))
    return {tag: each for tag, each in found.items() if each[1]}


def _operation(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (each["name"], _place(each), _type(each["schema"]), each.get("description", ""))
        for each in operation.get("parameters", ())
    ]
    answers = [
        (status, _contents(each), each.get("description", ""))
        for status, each in operation["responses"].items()
    ]
    return f"""<article id="{_anchor(method, path)}"><h3><code>{method.upper()} {escape(path)}</code>
{escape(operation["summary"])}</h3>{_prose(operation.get("description", ""))}
<h4>Example</h4>{_example(method, path, operation)}
{_table("Parameters", ("name", "where", "type", "meaning"), parameters)}{_body(operation)}
{_table("Answers", ("status", "content", "meaning"), answers)}</article>"""


def _place(parameter: Mapping[str, Any]) -> str:
    return f"{parameter['in']}, required" if parameter.get("required") else str(parameter["in"])


def _body(operation: Mapping[str, Any]) -> str:
    body = operation.get("requestBody")
    return (
        "" if body is None else f"<h4>Body</h4><p>{_contents(body)} {escape(body.get('description', ''))}</p>"
    )


def _contents(holder: Mapping[str, Any]) -> str:
    """Media types with the models they hold."""
    return ", ".join(
        f"<code>{escape(media)}</code> {_type(each.get('schema', {}))}"
        for media, each in holder.get("content", {}).items()
    )


def _example(method: str, path: str, operation: Mapping[str, Any]) -> str:
    """The call as a command: the first example of the body, if it has one."""
    words = ["curl"] + ([f"-X {method.upper()}"] if method not in ("get", "post") else [])
    words += ['-H "X-API-Key: $CPA_API_KEY"'] if operation.get("security") else []
    lines = [" ".join([*words, f'"$CPA_URL{path}"'])]
    for media, each in operation.get("requestBody", {}).get("content", {}).items():
        shown = next((one["value"] for one in each.get("examples", {}).values()), None)
        data = "@FILE" if shown is None else json.dumps(shown, ensure_ascii=False, indent=2)
        data = data.replace("'", "'\\''")
        option = "--data-binary @FILE" if shown is None and "json" not in media else f"-d '{data}'"
        lines.append(f'-H "Content-Type: {media}" {option}')
        break
    else:
        lines += ["-X POST"] if method == "post" else []
    command = " \\\n  ".join(lines)
    return f'<pre tabindex="0">{escape(command, quote=False)}</pre>'


def _schema(name: str, schema: Mapping[str, Any]) -> str:
    required = schema.get("required", ())
    fields = [
        (each, _type(about) + (", required" if each in required else ""), about.get("description", ""))
        for each, about in schema.get("properties", {}).items()
    ]
    values = ", ".join(escape(str(value)) for value in schema.get("enum", ())) or (
        _type(schema) if "oneOf" in schema else ""
    )
    return f"""<article id="{_model(name)}"><h3><code>{escape(name)}</code></h3>
{_prose(schema.get("description", ""))}{f"<p>One of: {values}.</p>" if values else ""}
{_table("", ("field", "type", "meaning"), fields)}</article>"""


def _type(schema: Mapping[str, Any]) -> str:
    """A schema in a few words, models as links."""
    return " or ".join(dict.fromkeys(_kinds(schema))) or "anything"


def _kinds(schema: Mapping[str, Any]) -> Iterator[str]:
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        yield f'<a href="#{_model(name)}">{escape(name)}</a>'
    for group in ("anyOf", "oneOf", "allOf"):
        for each in schema.get(group, ()):
            yield from _kinds(each)
    if "const" in schema:
        yield f"<code>{escape(json.dumps(schema['const']))}</code>"
    elif schema.get("type") == "array":
        yield f"list of {_type(schema.get('items', {}))}"
    elif "type" in schema:
        form = f" ({schema['format']})" if "format" in schema else ""
        yield escape(f"{schema['type']}{form}")


def _table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The first cell is a name; the last is prose; those between are HTML already."""
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{each}</th>' for each in heads)
    body = "".join(
        f'<tr><th scope="row"><code>{escape(first)}</code></th>'
        f"{''.join(f'<td>{each}</td>' for each in between)}<td>{_marked(last)}</td></tr>"
        for first, *between, last in rows
    )
    heading = f"<h4>{title}</h4>" if title else ""
    return (
        f'{heading}<div class="scroll" tabindex="0"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody>'
        "</table></div>"
    )


def _prose(text: str) -> str:
    return "".join(f"<p>{_marked(part)}</p>" for part in text.split("\n\n") if part.strip())


def _marked(text: str) -> str:
    """Text with what stands between backquotes as code."""
    parts = escape(text, quote=False).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))


def _anchor(method: str, path: str) -> str:
    return escape(f"{method}{path}".replace("/", "-").replace("{", "").replace("}", ""))


def _model(name: str) -> str:
    return escape(f"model-{name}")
