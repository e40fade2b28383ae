"""The runtime specification's JSON schema: what it knows, and documents made by its rules."""

import json
import pathlib
import re

import jsonschema

# A value for each pattern of config-schema.json, and one that it forbids.
PATTERNS = {"^[1-9][0-9]*[KMG]B$": ("2MB", "2mb"), "^RLIMIT_[A-Z]+$": ("RLIMIT_CORE", "CORE"),
            "^[0-9, -]*$": ("0", "x"), "^[cbup]$": ("c", "x")}


class Schema:
    """The files of one folder, which refer to one another."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.files = {}

    def file(self, name):
        if name not in self.files:
            self.files[name] = json.loads((self.folder / name).read_text())
        return self.files[name]

    def errors(self, name, document):
        """What is wrong with a document by the schema of that name."""
        resolver = jsonschema.RefResolver(f"file://{self.folder}/{name}", self.file(name))
        validator = jsonschema.Draft4Validator(self.file(name), resolver=resolver)
        return [f"{'.'.join(map(str, error.path))}: {error.message}"
                for error in validator.iter_errors(document)]

    def resolved(self, name, node):
        """What `node` of the file says, with what it refers to: (file, node) in one."""
        merged = {key: value for key, value in node.items() if key not in ("$ref", "allOf")}
        for part in [node] if "$ref" in node else node.get("allOf", []):
            if "$ref" in part:
                file, _, pointer = part["$ref"].partition("#/")
                name, part = file or name, self.file(file or name)
                for word in pointer.split("/"):
                    part = part[word]
            of, part = self.resolved(name, part)
            merged = {**part, **merged, "properties": {**merged.get("properties", {}),
                                                       **part.get("properties", {})},
                      "required": [*merged.get("required", []), *part.get("required", [])]}
            name = of
        if "anyOf" in merged:
            return self.resolved(name, merged["anyOf"][0])
        return name, merged

    def walk(self, skip=lambda path: False):
        """Every property of a config.json, as (path, file, node); "[]" for each of a list, "*" for
        each of a map."""
        yield from self._below("config-schema.json", self.file("config-schema.json"), "", skip)

    def _below(self, name, node, path, skip):
        name, node = self.resolved(name, node)
        for word, child in node.get("properties", {}).items():
            place = f"{path}.{word}" if path else word
            yield place, *self.resolved(name, child)
            if not skip(place):
                yield from self._below(name, child, place, skip)
        if "items" in node:
            yield path + "[]", *self.resolved(name, node["items"])
            yield from self._below(name, node["items"], path + "[]", skip)
        for child in [*node.get("patternProperties", {}).values(),
                      *([node["additionalProperties"]] if "additionalProperties" in node else [])]:
            yield path + ".*", *self.resolved(name, child)
            yield from self._below(name, child, path + ".*", skip)

    def sample(self, name, node):
        """The smallest value that the node allows."""
        name, node = self.resolved(name, node)
        if "enum" in node:
            return node["enum"][0]
        if "pattern" in node:
            return PATTERNS[node["pattern"]][0]
        kind = node.get("type", "object")
        if kind == "object":
            return {word: self.sample(name, node["properties"][word])
                    for word in node.get("required", [])}
        if kind == "array":
            return [self.sample(name, node["items"])]
        return {"string": "/x", "integer": max(1, node.get("minimum", 1)), "boolean": True}[kind]

    def allowed(self, name, node):
        return node["enum"] if "enum" in node else [self.sample(name, node)]

    @staticmethod
    def forbidden(node):
        """Values that the node does not allow, and that mean something."""
        kind = node.get("type", "object")
        wrong = {"object": ["x"], "array": ["x"], "boolean": ["yes"], "string": [5, ["x"]],
                 "integer": ["x", 1.5, *(node[end] + step for end, step in
                                         (("minimum", -1), ("maximum", 1)) if end in node)]}[kind]
        if "enum" in node:
            wrong = [*wrong, "NO_SUCH"]
        if "pattern" in node:
            wrong = [*wrong, PATTERNS[node["pattern"]][1]]
        return [*wrong, []] if node.get("minItems") else wrong

    def put(self, document, path, change):
        """A copy of the document where change(parent, key) was done to what the path names; what is
        on the way is made."""
        document = at = json.loads(json.dumps(document))  # of which no part is another's, too
        name, node = "config-schema.json", self.file("config-schema.json")
        steps = [0 if step == "[]" else step for step in re.findall(r"\[\]|[^.\[\]]+", path)]
        for step, following in zip(steps, [*steps[1:], None]):
            name, node = self.resolved(name, node)
            if step == 0:
                node = node["items"]
                at[:] = [self.sample(name, node)]
            elif step == "*":
                step = "x"
                node = next(iter([*node.get("patternProperties", {}).values(),
                                  node.get("additionalProperties")]))
            else:
                node = node["properties"][step]
            if step != 0 and step not in at:
                at[step] = [] if following == 0 else self.sample(name, node)
            if following is not None:
                at = at[step]
        change(at, step)
        return document


def words(path):
    return re.findall(r"\[\]|[^.\[\]]+", path)


def starts(path, field):
    """Whether the path goes on, or ends, where the field ends; "*" of either is any word."""
    own, other = words(path), words(field)
    return len(own) >= len(other) and all(
        "*" in (left, right) or left == right for left, right in zip(own, other))


class Table:
    """docs/spec-coverage.md: the fields, with the values that have rows of their own."""

    def __init__(self, text):
        self.fields, self.refused = {}, set()
        for cell, status in re.findall(r"^\| `([^`]+)` \| ([\w ]+) \|", text, re.MULTILINE):
            names, _, values = cell.partition(": ")
            first, *others = names.split(", ")
            for path in [first, *(first[:first.rindex(".") + 1] + other for other in others)]:
                self.fields.setdefault(path, []).extend(values.split(", ") if values else [])
                if status == "refused" and not values:
                    self.refused.add(path)

    def knows(self, path):
        """It is a field or an element of one, holds some, or is part of what is refused."""
        path = path.removesuffix("[]").removesuffix(".*")
        return self.is_refused(path) or any(starts(field, path) for field in self.fields)

    def is_refused(self, path):
        return any(starts(path, field) for field in self.refused)
