"""TOML files of policies: read, and checked with line and field.

    [marketplace]
    about = "Photos of things for sale."

    [[marketplace.rules]]
    code = "shaken"
    rule = "reject when motion_blur.severity >= 0.6"
    message = "The photo is shaken. Hold the camera still, or add light."

``policies.de.toml`` beside ``policies.toml`` holds its messages in German, by policy and code.
"""

import re
import string
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from model.calibration import Calibration, CalibrationError
from model.policies import regions
from model.policies.conditions import EVERYTHING, Condition, did_you_mean, parse
from model.policies.policy import ENGLISH, OUTCOMES, Policy, Rule
from model.policies.regions import Box

SHIPPED = Path(__file__).with_name("shipped.toml")
MOST_POLICIES, MOST_RULES = 100, 100
MOST_CHARACTERS = 1000
"""Longest rule or message."""
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_KEY_NAME = re.compile(r"[A-Za-z0-9._-]{1,64}")
_RULE = re.compile(r"\s*([a-z]+)\s+when\s+(\S.*)", re.DOTALL)
_LANGUAGE = re.compile(r"[a-z]{2}(-[a-z0-9]{2,8})*")
_KEYS = {"about": str, "otherwise": str, "keys": list, "calibration": str, "rules": list}
_RULE_KEYS = ("code", "rule", "message")
_MOST_BOXES = 10_000
"""Boxes that are looked at for one rule; beyond, it is taken to have a say."""


class PolicyError(ValueError):
    """A file of policies cannot be used. The text says where, and why."""


class UnknownPolicy(LookupError):
    """There is no policy of that name.

    Attributes:
        name: The name.
        known: The names that there are.
    """

    def __init__(self, name: str, known: tuple[str, ...]) -> None:
        super().__init__(f"there is no policy {name!r}{did_you_mean(name, known)}")
        self.name = name
        self.known = known


@dataclass(frozen=True)
class Policies:
    """The policies of a file.

    Attributes:
        by_name: The policies, in the order of the file.
    """

    by_name: Mapping[str, Policy] = field(default_factory=dict)

    @classmethod
    def load(cls, file: Path | str = SHIPPED) -> "Policies":
        """Read and check a file, and the files of its messages in other languages beside it.

        Raises:
            PolicyError: A file is not one of policies, or a rule can never hold or never decide.
            OSError: The file cannot be read.
        """
        file = Path(file)
        policies = {policy.name: policy for policy in _File(file).policies()}
        for language, other in sorted(_translations(file)):
            for name, messages in _File(other).messages(policies).items():
                own = {**policies[name].messages, language: messages}
                policies[name] = replace(policies[name], messages=own)
        return cls(policies)

    def __getitem__(self, name: str) -> Policy:
        """The policy of a name.

        Raises:
            UnknownPolicy: There is none.
        """
        if name not in self.by_name:
            raise UnknownPolicy(name, tuple(self.by_name))
        return self.by_name[name]

    def __iter__(self) -> Iterator[Policy]:
        """The policies, in the order of the file."""
        return iter(self.by_name.values())

    def for_key(self, owner: str) -> Policy | None:
        """The policy that decides about the requests of a key, if one does."""
        return next((policy for policy in self if owner in policy.keys), None)


class _File:
    """A file that is being read.

    Args:
        file: The file.
    """

    def __init__(self, file: Path) -> None:
        # Without its folder: an admin who reloads is told the text of an error.
        self._name, self._folder = file.name, file.parent
        try:
            self._text = file.read_text(encoding="utf-8-sig")
            self._content: dict[str, Any] = tomllib.loads(self._text)
            self._lines = _Lines(self._text)
        except UnicodeDecodeError as error:
            raise PolicyError(f"{self._name}: this is not UTF-8") from error
        except tomllib.TOMLDecodeError as error:
            raise PolicyError(f"{self._name}: {error}") from error

    def policies(self) -> list[Policy]:
        if not self._content:
            raise PolicyError(f"{self._name}: there are no policies in it")
        if len(self._content) > MOST_POLICIES:
            raise PolicyError(f"{self._name}: there may be {MOST_POLICIES} policies, not {len(self._content)}")
        found = [self._policy(name, table) for name, table in self._content.items()]
        owners: dict[str, str] = {}
        for policy in found:
            for key in policy.keys:
                if key in owners:
                    raise self._error(policy.name, None, "keys", f"{key!r} is bound to {owners[key]} already")
                owners[key] = policy.name
        return found

    def messages(self, policies: Mapping[str, Policy]) -> dict[str, dict[str, str]]:
        """Messages by policy and code."""
        found: dict[str, dict[str, str]] = {}
        for name, table in self._content.items():
            if name not in policies:
                raise self._error(name, None, None, f"there is no such policy{did_you_mean(name, policies)}")
            if not isinstance(table, dict):
                raise self._error(name, None, None, "must be a table of messages")
            rules = {rule.code: rule for rule in policies[name].rules}
            for code, message in table.items():
                if code not in rules:
                    raise self._error(name, None, code, f"no rule has this code{did_you_mean(code, rules)}")
                self._check_message(name, None, code, message, rules[code].subject)
            found[name] = dict(table)
        return found

    def _policy(self, name: str, table: object) -> Policy:
        if not _NAME.fullmatch(name):
            raise self._error(name, None, None, "names are of a to z, digits, _ and -")
        if not isinstance(table, dict):
            raise self._error(name, None, None, "must be a table with rules")
        for key, value in table.items():
            if key not in _KEYS:
                raise self._error(name, None, key, f"there is no such field{did_you_mean(key, _KEYS)}")
            if not isinstance(value, _KEYS[key]):
                raise self._error(name, None, key, "must be a list" if _KEYS[key] is list else "must be text")
        otherwise = table.get("otherwise", "accept")
        if otherwise not in OUTCOMES:
            raise self._error(name, None, "otherwise", f"{otherwise!r} is none of {', '.join(OUTCOMES)}")
        keys = table.get("keys", [])
        if not all(isinstance(key, str) and _KEY_NAME.fullmatch(key) for key in keys):
            detail = "must be names of keys: letters, digits, dots, underscores and hyphens"
            raise self._error(name, None, "keys", detail)
        rules, calibration = table.get("rules", []), self._calibration(name, table.get("calibration"))
        if not (calibration is None) <= len(rules) <= MOST_RULES:
            raise self._error(name, None, "rules", f"there must be 1 to {MOST_RULES} rules, not {len(rules)}")
        policy = Policy(
            name=name,
            about=table.get("about", ""),
            rules=tuple(self._rule(name, place, rule) for place, rule in enumerate(rules)),
            otherwise=otherwise,
            keys=tuple(keys),
            calibration=calibration,
        )
        codes = [rule.code for rule in policy.rules]
        for place, code in enumerate(codes):
            if code in codes[:place]:
                raise self._error(name, place, "code", f"an earlier rule has the code {code} already")
        self._check_reach(policy)
        return policy

    def _calibration(self, name: str, file: str | None) -> Calibration | None:
        """The calibration of a file that a policy names, relative to the folder of the policies."""
        if file is None:
            return None
        try:
            return Calibration.load(self._folder / file)
        except CalibrationError as error:
            raise self._error(name, None, "calibration", str(error)) from error
        except OSError as error:
            raise self._error(name, None, "calibration", f"{file}: {error.strerror}") from error
        except ValueError as error:
            raise self._error(name, None, "calibration", f"{file!r} is no name of a file") from error

    def _rule(self, name: str, place: int, table: object) -> Rule:
        if not isinstance(table, dict):
            raise self._error(name, place, None, "must be a table with code and rule")
        for key, value in table.items():
            if key not in _RULE_KEYS:
                raise self._error(name, place, key, f"there is no such field{did_you_mean(key, _RULE_KEYS)}")
            if not isinstance(value, str) or not 0 < len(value) <= MOST_CHARACTERS:
                raise self._error(name, place, key, f"must be text of 1 to {MOST_CHARACTERS} characters")
        for key in ("code", "rule"):
            if key not in table:
                raise self._error(name, place, None, f"{key} is missing")
        if not _NAME.fullmatch(table["code"]):
            raise self._error(name, place, "code", "codes are of a to z, digits, _ and -")
        match = _RULE.fullmatch(table["rule"])
        if match is None:
            raise self._error(name, place, "rule", "write OUTCOME when CONDITION, such as reject when score < 40")
        if match[1] not in OUTCOMES:
            raise self._error(name, place, "rule", f"{match[1]!r} is no outcome{did_you_mean(match[1], OUTCOMES)}")
        try:
            conditions = parse(match[2])
        except ValueError as error:
            raise self._error(name, place, "rule", str(error)) from error
        outcome = next(outcome for outcome in OUTCOMES if outcome == match[1])
        rule = Rule(code=table["code"], outcome=outcome, conditions=conditions, message=table.get("message"))
        if rule.message is not None:
            self._check_message(name, place, "message", rule.message, rule.subject)
        return rule

    def _check_message(self, name: str, place: int | None, key: str, message: object, subject: Condition) -> None:
        if not isinstance(message, str) or not 0 < len(message) <= MOST_CHARACTERS:
            raise self._error(name, place, key, f"must be text of 1 to {MOST_CHARACTERS} characters")
        sample: float | str = "JPEG" if subject.textual else 0.5
        try:
            fields = [field for field in string.Formatter().parse(message) if field[1] is not None]
            message.format(value=sample, threshold=sample)
            if any(one not in ("value", "threshold") or "{" in (spec or "") for _, one, spec, _ in fields):
                raise ValueError("there may be {value} and {threshold}, and {{ and }} for braces themselves")
        except (ValueError, LookupError, AttributeError) as error:
            kind = "text" if subject.textual else "a number"
            detail = f"there is no {{{error.args[0]}}}" if isinstance(error, LookupError) else str(error)
            raise self._error(name, place, key, f"its braces cannot be filled, with {kind}: {detail}") from error

    def _check_reach(self, policy: Policy) -> None:
        """Refuse rules that can never hold, and rules that never have a say."""
        rules = policy.rules
        held = [_region(rule) for rule in rules]
        for place, (rule, region) in enumerate(zip(rules, held, strict=True)):
            if not region:
                raise self._error(policy.name, place, "rule", f"{rule.text!r} can never hold")
            earlier = [(before.outcome == rule.outcome, boxes) for before, boxes in zip(rules, held, strict=True)][
                :place
            ]
            if not _has_say(region, earlier):
                met = [number for number, (_, boxes) in enumerate(earlier) if regions.meet(region, boxes)]
                codes = ", ".join(rules[number].code for number in met)
                line = self._lines.of(policy.name, met[-1], "rule")
                detail = f"never decides: whenever it holds, an earlier rule does ({codes}; the last is in line {line})"
                raise self._error(policy.name, place, "rule", f"{rule.text!r} {detail}")

    def _error(self, name: str, place: int | None, key: str | None, detail: str) -> PolicyError:
        where = ".".join(part for part in (name, None if place is None else f"rules[{place}]", key) if part)
        line = self._lines.of(name, place, key)
        told = self._name if line is None else f"{self._name}, line {line}"
        return PolicyError(f"{told}, {where}: {detail}")


class _Lines:
    """Where the fields of a file stand.

    Args:
        text: The file, which is valid TOML.
    """

    def __init__(self, text: str) -> None:
        self._places: dict[tuple[str, int | None, str | None], int] = {}
        rules: dict[str, int] = {}
        table: tuple[str, int | None] | None = None
        for number, line in _lines_outside_strings(text):
            if line.lstrip().startswith("["):
                path = _path(line)
                table = None
                if len(path) == 1:
                    table = path[0], None
                elif len(path) == 2 and path[1] == "rules":
                    rules[path[0]] = rules.get(path[0], -1) + 1
                    table = path[0], rules[path[0]]
                    self._places.setdefault((path[0], None, None), number)
                if table is not None:
                    self._places[*table, None] = number
            elif match := re.match(r"\s*[\"']?([A-Za-z0-9_-]+)[\"']?\s*=", line):
                key = match[1]
                self._places[(key, None, None) if table is None else (*table, key)] = number

    def of(self, name: str, rule: int | None, key: str | None) -> int | None:
        """The line of a field, or of what it is in where it has no line of its own; None if that is not found."""
        for place in ((name, rule, key), (name, rule, None), (name, None, "rules"), (name, None, None)):
            if place in self._places:
                return self._places[place]
        return None


def _lines_outside_strings(text: str) -> Iterator[tuple[int, str]]:
    """The lines of a TOML file that do not begin within a string of several lines, with their numbers."""
    inside = ""
    for number, line in enumerate(text.split("\n"), 1):
        if not inside:
            yield number, line
        for quotes in re.findall(r'"""|\'\'\'', line):
            inside = "" if quotes == inside else inside or quotes


def _path(header: str) -> list[str]:
    """The names in the header of a table."""
    try:
        content: Any = tomllib.loads(header)
    except tomllib.TOMLDecodeError:  # the line is within a list of several lines
        return []
    path = []
    while content:
        if isinstance(content, list):
            content = content[0]
            continue
        ((name, content),) = content.items()
        path.append(name)
    return path


def _translations(file: Path) -> Iterator[tuple[str, Path]]:
    """Files with messages in other languages beside a file: ``NAME.LANGUAGE.toml``, each with its language."""
    if not file.suffix:
        return
    for other in file.parent.iterdir():
        if other.name.startswith(f"{file.stem}.") and other.name.endswith(file.suffix) and other.name != file.name:
            middle = other.name.removeprefix(f"{file.stem}.").removesuffix(file.suffix)
            language = middle.replace("_", "-").lower()
            if _LANGUAGE.fullmatch(language) and language != ENGLISH:
                yield language, other


def _has_say(region: Sequence[Box], earlier: Sequence[tuple[bool, Sequence[Box]]]) -> bool:
    """Whether a rule decides, or gives one more reason, for some score.

    Args:
        region: Where it holds.
        earlier: For each rule before it, whether it has the same outcome, and where it holds.
    """
    waiting = [(box, 0) for box in region]
    for _ in range(_MOST_BOXES):
        if not waiting:
            return False
        # The newest first: one box that reaches the end is enough.
        box, place = waiting.pop()
        if place == len(earlier):
            return True
        alike, boxes = earlier[place]
        if alike and regions.meet([box], boxes):
            return True
        waiting += [(part, place + 1) for part in regions.without([box], boxes)]
    return True


def _region(rule: Rule) -> list[Box]:
    region: list[Box] = [EVERYTHING]
    for condition in rule.conditions:
        region = regions.meet(region, condition.region())
    return region
