#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Renders chat templates with Python's jinja2, set up as transformers sets it up, and writes what came out.

  tools/golden_chat.py [DIR]      default: tests/golden/chat

DIR/*.jinja are the templates. DIR/chat.json gets every template rendered on every chat below; DIR/language.json gets
the cases of tools/golden_chat_language.txt. An error is stored with its type and message.
"""
import datetime
import json
import pathlib
import sys

import jinja2
import jinja2.ext
import transformers.utils.chat_template_utils as chat_template_utils

ROOT = pathlib.Path(__file__).resolve().parent.parent
NOW = datetime.datetime(2025, 3, 9, 7, 5, 4)  # what strftime_now tells


class FixedClock(datetime.datetime):
    @classmethod
    def now(cls, tz=None):
        return NOW


def message(role, content, **more):
    return {"role": role, "content": content, **more}


SYSTEM = message("system", "You are a terse assistant.")
USER = message("user", "What is 2 + 2?")
ANSWER = message("assistant", "4")
TOOLS = [
    {"type": "function", "function": {
        "name": "get_weather", "description": "The weather at a place. Don't guess: \"ask\" <b>&</b> tell.",
        "parameters": {"type": "object", "required": ["city"], "properties": {
            "city": {"type": "string", "description": "Name of the city, e.g. Zürich"},
            "days": {"type": "integer", "default": 1, "enum": [1, 3, 7]},
            "precise": {"type": "boolean"}, "limit": {"type": "number", "minimum": 0.5}}},
        "return": {"type": "string"}}},
    {"type": "function", "function": {
        "name": "stop", "description": "Ends the talk.", "parameters": {"type": "object", "properties": {}}}},
]


def call(name, arguments, identity="call12345"):
    return {"id": identity, "type": "function", "function": {"name": name, "arguments": arguments}}


CALL = message("assistant", "", tool_calls=[call("get_weather", {"city": "Bern", "days": 3, "precise": True})])
RESULT = message("tool", '{"sky": "clear", "t": 21.5}', name="get_weather", tool_call_id="call12345")
THINKING = message("assistant", "<think>\nTwo and two.\n</think>\n\nIt is 4.")
REASONING = message("assistant", "It is 4.", reasoning_content="Two and two.")

# name: (messages, tools, add_generation_prompt, further variables)
CHATS = {
    "plain": ([USER], None, True, {}),
    "no_prompt": ([USER, ANSWER], None, False, {}),
    "system": ([SYSTEM, USER], None, True, {}),
    "turns": ([SYSTEM, USER, ANSWER, message("user", "And 3 + 3?"), message("assistant", "6"),
               message("user", "Thanks\n")], None, True, {}),
    "blanks": ([message("system", "  \n two  "), message("user", "\tindented\n\n  code\n"),
                message("assistant", "  padded  "), message("user", " ")], None, True, {}),
    "unicode": ([message("user", "Grüße, 世界 👩‍🚀 — «naïve»\u00a0\u2028?\x07"), message("assistant", "ß İ ǆ\u3000"),
                 message("user", "<|im_end|> {{ braces }} {% tag %} \\n 'q' \"d\"")], None, True, {}),
    "empty": ([message("user", ""), message("assistant", ""), message("user", "again")], None, True, {}),
    "parts": ([message("system", [{"type": "text", "text": "Parts."}]),
               message("user", [{"type": "text", "text": " Look: "}, {"type": "image", "image": "x.png"},
                                {"type": "text", "text": "what?"}])], None, True, {}),
    "tools": ([SYSTEM, USER], TOOLS, True, {}),
    "tool_turns": ([message("user", "Weather in Bern?"), CALL, RESULT, message("assistant", "Clear, 21.5°."),
                    message("user", "Thanks")], TOOLS, True, {}),
    "tool_result_last": ([SYSTEM, message("user", "Weather?"), CALL, RESULT], TOOLS, True, {}),
    "two_calls": ([message("user", "Both"),
                   message("assistant", None, tool_calls=[call("get_weather", {"city": "Bern"}, "aaaaaaaa1"),
                                                          call("stop", {}, "aaaaaaaa2")]),
                   {**RESULT, "tool_call_id": "aaaaaaaa1"},
                   message("tool", "stopped", name="stop", tool_call_id="aaaaaaaa2")], TOOLS, True, {}),
    "arguments_as_text": ([message("user", "Weather?"),
                           message("assistant", "", tool_calls=[call("get_weather", '{"city": "Bern"}')]),
                           RESULT], TOOLS, False, {}),
    "thinking": ([USER, THINKING, message("user", "Sure?"), THINKING], None, False, {}),
    "reasoning": ([USER, REASONING, message("user", "Sure?")], None, True, {"enable_thinking": True}),
    "no_thinking": ([SYSTEM, USER], None, True, {"enable_thinking": False, "thinking": False}),
    "date": ([USER], TOOLS, True, {"date_string": "01 Jan 2030", "tools_in_user_message": False}),
    "wrong_order": ([USER, USER], None, True, {}),
    "assistant_first": ([ANSWER, USER], None, True, {}),
    "unknown_role": ([USER, message("critic", "No.")], None, True, {}),
    "none": ([], None, True, {}),
}

LANGUAGE_VARIABLES = {
    "messages": [SYSTEM, USER, {**ANSWER, "n": 1}], "tools": TOOLS[:1], "add_generation_prompt": True,
    "s": "Hello, Wörld", "e": "", "p": "  pad\t\n", "lines": "one\ntwo\n\nthree\n", "n": 7, "z": 0, "x": 2.5, "neg": -3,
    "t": True, "f": False, "nil": None, "html": "<a href='x'>\"&\"</a>", "big": 1e300, "small": 1e-7, "whole": 3.0,
    "l": [3, 1, 2], "words": ["b", "A", "c", "a"], "nested": [[1, 2], [3, [4, None]]], "el": [],
    "d": {"b": 1, "a": 2, "C": 3}, "ed": {}, "mixed": {"k": [1, {"z": None}], "items": "own", "q": "it's", "u": "é\n"},
    "objs": [{"n": "x", "v": 2, "ok": True}, {"n": "y", "v": 1, "ok": False}, {"n": "z", "v": 3, "ok": True}],
}


def render(source, variables):
    """{"out": text} or {"error": type, "message": text}, as transformers' environment gives it."""
    try:
        template = chat_template_utils._compile_jinja_template(source)
        return {"out": template.render(bos_token="<s>", eos_token="</s>", documents=None, **variables)}
    except jinja2.TemplateSyntaxError as error:
        return {"error": "TemplateSyntaxError", "message": str(error.message)}
    except Exception as error:  # any error of the template is a result
        return {"error": type(error).__name__, "message": str(error)}


def chat_golden(folder):
    chats = {name: {"messages": m, "tools": t, "add_generation_prompt": a, "extra": e}
             for name, (m, t, a, e) in CHATS.items()}
    cases = []
    for path in sorted(folder.glob("*.jinja")):
        source = path.read_bytes().decode()
        for name, chat in chats.items():
            variables = {k: chat[k] for k in ("messages", "tools", "add_generation_prompt")}
            cases.append({"template": path.name, "chat": name, **render(source, {**variables, **chat["extra"]})})
    return {"now": NOW.timetuple()[:6], "chats": chats, "cases": cases}


def language_golden():
    text = (ROOT / "tools/golden_chat_language.txt").read_text()
    sources = [s.replace("⏎", "\n") for s in text.splitlines() if s and not s.startswith("## ")]
    cases = [{"source": s, **render(s, LANGUAGE_VARIABLES)} for s in sources]
    return {"variables": LANGUAGE_VARIABLES, "cases": cases}


def write(path, data):
    """One case a line, so that a change shows as one."""
    cases = ",\n".join(json.dumps(c, ensure_ascii=False) for c in data.pop("cases"))
    head = json.dumps(data, ensure_ascii=False)[1:-1]
    path.write_text("{" + head + ',\n"cases": [\n' + cases + "\n]}\n")


def main():
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "tests/golden/chat"
    chat_template_utils.datetime = FixedClock
    write(folder / "chat.json", chat_golden(folder))
    write(folder / "language.json", language_golden())


if __name__ == "__main__":
    main()
