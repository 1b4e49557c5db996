"""Policies: from a score to a decision, accept, review or reject, with the reasons.

    conditions  what a rule may ask of a score, and how it is written
    regions     which scores rules hold for: finds rules that can never hold, or never decide
    policy      rules in order, and the decision
    files       TOML files of policies, checked with line and field; their messages in other languages

It imports ``images``, ``defects``, ``contract`` and ``score``.
"""

from model.policies.files import SHIPPED, Policies, PolicyError, UnknownPolicy
from model.policies.policy import ENGLISH, OUTCOMES, Decision, Outcome, Policy, Reason, language_of

__all__ = [
    "ENGLISH",
    "OUTCOMES",
    "SHIPPED",
    "Decision",
    "Outcome",
    "Policies",
    "Policy",
    "PolicyError",
    "Reason",
    "UnknownPolicy",
    "language_of",
]
