"""A policy: rules in order, and the decision that they make of a score."""

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any, Literal, get_args

from model.calibration import Calibration
from model.contract import Contract
from model.policies.conditions import NUMBERS, Condition
from model.score import QualityScore

Outcome = Literal["accept", "review", "reject"]
OUTCOMES: tuple[Outcome, ...] = get_args(Outcome)
ENGLISH = "en"
_WEIGHT = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)")

_FAULTS: Mapping[str, str] = {
    "defocus": "the picture is out of focus",
    "motion_blur": "the picture is blurred by movement",
    "noise": "the picture is noisy",
    "compression": "the picture is compressed too much",
    "upscaled": "the picture has less detail than pixels",
    "underexposed": "the picture is too dark",
    "overexposed": "the picture is too bright",
    "low_contrast": "the picture is hazy: it lacks contrast",
    "colour_cast": "the colours of the picture are tinted",
    "saturation": "the colours of the picture are too strong or too pale",
}


@dataclass(frozen=True, kw_only=True)
class Reason:
    """A rule that a score met.

    Attributes:
        code: The rule's code.
        field: What its subject asks about: ``Rule.subject``.
        operator: How it compares, as in ``Condition``.
        value: What the score has there.
        threshold: What that is compared with.
        severity: The severity of the defect that it asks about; None if it is no defect.
        message: What is wrong, for people.
    """

    code: str
    field: str
    operator: str
    value: float | str
    threshold: float | str
    severity: float | None
    message: str


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What a policy decides.

    Attributes:
        outcome: ``accept``, ``review`` or ``reject``.
        reasons: The rules with that outcome that the score met, in their order; empty if it met none.
        policy: Name of the policy.
        version: Its hash.
    """

    outcome: Outcome
    reasons: tuple[Reason, ...]
    policy: str
    version: str

    def to_dict(self) -> dict[str, Any]:
        """The decision as a JSON object."""
        return {**asdict(self), "reasons": [asdict(reason) for reason in self.reasons]}


@dataclass(frozen=True, kw_only=True)
class Rule:
    """A rule of a policy.

    Attributes:
        code: Names the reason.
        outcome: What it decides.
        conditions: All must be met.
        message: What is wrong, for people; None for a sentence made of the first condition.
    """

    code: str
    outcome: Outcome
    conditions: tuple[Condition, ...]
    message: str | None = None

    @property
    def text(self) -> str:
        """The rule as it is written."""
        return f"{self.outcome} when {' and '.join(condition.text for condition in self.conditions)}"

    def holds(self, score: QualityScore) -> bool:
        """Whether a score meets all conditions."""
        return all(condition.holds(score) for condition in self.conditions)

    @property
    def subject(self) -> Condition:
        """The condition that reasons tell of: the first about a defect, else the first."""
        return next((one for one in self.conditions if one.defect is not None), self.conditions[0])

    def reason(self, score: QualityScore, message: str | None) -> Reason:
        """The reason that it gives for a score that it holds for, with another message than its own if there is one."""
        subject = self.subject
        value, threshold = subject.value(score), subject.threshold
        words = self.message if message is None else message
        return Reason(
            code=self.code,
            field=subject.field,
            operator=subject.operator,
            value=value,
            threshold=threshold,
            severity=None if subject.defect is None else score.defects[subject.defect].severity,
            message=_sentence(subject, value, self.outcome)
            if words is None
            else words.format(value=value, threshold=threshold),
        )


@dataclass(frozen=True, kw_only=True)
class Policy:
    """Rules in order: the first that holds decides. It may bring a calibration, which corrects scores before.

    Attributes:
        name: Its name.
        about: What it is for.
        rules: The rules.
        otherwise: The outcome where none holds.
        keys: Names of the keys whose requests it decides, unless they name another one.
        messages: For each language but English, messages by the codes of rules.
        language: Language of reasons where no other is asked for.
        calibration: Corrects the scores that it decides about; None to take them as they are.
    """

    name: str
    about: str
    rules: tuple[Rule, ...]
    otherwise: Outcome = "accept"
    keys: tuple[str, ...] = ()
    messages: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    language: str = ENGLISH
    calibration: Calibration | None = None

    @cached_property
    def version(self) -> str:
        """Hash of all that decides, and of what is said about it."""
        rules = [(rule.code, rule.text, rule.message) for rule in self.rules]
        calibration = [] if self.calibration is None else [self.calibration.id]
        content = json.dumps([self.name, self.otherwise, rules, self.messages, *calibration], sort_keys=True)
        return f"sha256:{hashlib.sha256(content.encode()).hexdigest()}"

    @property
    def languages(self) -> tuple[str, ...]:
        """Languages beside English that it has messages in."""
        return tuple(self.messages)

    def speaking(self, language: str) -> "Policy":
        """The same policy, whose reasons are in a language; English where it has no messages in it."""
        return dataclasses.replace(self, language=language_of(language, self.languages))

    def corrected(self, score: QualityScore) -> QualityScore:
        """The score that it decides about: corrected by its calibration, if it has one."""
        return score if self.calibration is None else self.calibration.apply(score)

    def decide(self, score: QualityScore, language: str | None = None) -> Decision:
        """Decide about a score.

        Args:
            score: What ``corrected`` gave, from a checkpoint that has all that the policy asks for: see ``lacking``.
            language: Language of the messages, as ``de``, English where there are none in it; the policy's own if None.

        Raises:
            ValueError: The score is not corrected as the policy does it.
        """
        if score.calibration != ("" if self.calibration is None else self.calibration.id):
            raise ValueError(f"the policy {self.name} decides about the scores that its corrected() gives")
        holding = [rule for rule in self.rules if rule.holds(score)]
        outcome = holding[0].outcome if holding else self.otherwise
        messages = self.messages.get(self.language if language is None else language, {})
        reasons = (rule.reason(score, messages.get(rule.code)) for rule in holding if rule.outcome == outcome)
        return Decision(outcome=outcome, reasons=tuple(reasons), policy=self.name, version=self.version)

    def describe(self) -> dict[str, Any]:
        """The policy as a JSON object, without its messages and keys."""
        rules = [{"code": rule.code, "outcome": rule.outcome, "rule": rule.text} for rule in self.rules]
        return {
            "name": self.name,
            "about": self.about,
            "version": self.version,
            "otherwise": self.otherwise,
            "rules": rules,
            "languages": list(self.languages),
            "calibration": None if self.calibration is None else self.calibration.id,
        }

    def lacking(self, contract: Contract, digest: str) -> str | None:
        """What it asks for that a checkpoint does not tell; None if that tells all.

        Args:
            contract: The checkpoint's contract.
            digest: The checkpoint's digest.
        """
        if self.calibration is not None and self.calibration.model != digest:
            return f"the scores that its calibration {self.calibration.name} was fitted on"
        for condition in (condition for rule in self.rules for condition in rule.conditions):
            subject = condition.field.partition(".")[0]
            percentile = bool(contract.percentiles) and self.calibration is None
            known = {"interval": contract.interval is not None, "percentile": percentile}
            if not known.get(subject, condition.defect is None or condition.defect in contract.defects):
                return subject
        return None


def language_of(accepted: str, languages: Sequence[str]) -> str:
    """Choose a language by a header ``Accept-Language``: RFC 4647's lookup, with English where nothing is found."""
    wanted = []
    for place, part in enumerate(accepted.split(",")):
        tag, *parameters = (piece.strip().lower() for piece in part.split(";"))
        weights = [match[1] for piece in parameters if (match := _WEIGHT.fullmatch(piece))]
        weight = float(weights[0]) if weights else 1.0
        if tag and weight:
            wanted.append((-weight, place, tag))
    for _, _, tag in sorted(wanted):
        while tag:
            if tag == ENGLISH or tag in languages:
                return tag
            tag = tag.rpartition("-")[0]
    return ENGLISH


def _sentence(condition: Condition, value: float | str, outcome: Outcome) -> str:
    """What a rule without a message of its own says, in English."""
    limit = condition.threshold if condition.textual else f"{condition.threshold:g}"
    if condition.field == "format":
        return f"the format is {value}"
    if condition.field == "warnings":
        return f"there is the warning {value}" if condition.operator == "include" else f"there is no warning {limit}"
    if condition.field == "interval":
        return f"it is not certain on which side of {limit} people's opinion lies (the score is {value:g})"
    fact = f"its {NUMBERS[condition.field].what} is {value:g}"
    if outcome == "accept":
        return fact
    if condition.defect is not None and condition.operator.startswith(">"):
        return f"{_FAULTS[condition.defect]} ({condition.field} is {value:g}, the limit is {limit})"
    bound = {"<": "at least", "<=": "more than", ">": "at most", ">=": "less than"}[condition.operator]
    return f"{fact}, and should be {bound} {limit}"
