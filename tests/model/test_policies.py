"""Policies: what they decide, and which files are refused with line and field."""

import itertools
import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from model.defects import DEFECTS
from model.images import FORMATS, ImageWarning
from model.policies import OUTCOMES, SHIPPED, Policies, Policy, PolicyError, UnknownPolicy, language_of
from model.policies.conditions import NUMBERS, parse
from model.score import QualityScore
from tests.model.scores import CONTRACT, scored

OUTSIDE = ImageWarning.OUT_OF_DOMAIN


def policies(tmp_path: Path, text: str, name: str = "policies.toml") -> Policies:
    file = tmp_path / name
    file.write_text(text, encoding="utf-8")
    return Policies.load(file)


def policy(tmp_path: Path, *rules: str, **fields: str) -> Policy:
    """A policy of rules whose codes are their places."""
    head = "".join(f"{name} = {value}\n" for name, value in fields.items())
    tables = "".join(f'[[own.rules]]\ncode = "r{place}"\nrule = "{rule}"\n' for place, rule in enumerate(rules))
    return policies(tmp_path, f"[own]\n{head}{tables}")["own"]


def refusal(tmp_path: Path, text: str) -> str:
    with pytest.raises(PolicyError) as caught:
        policies(tmp_path, text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("condition", "meets", "fails"),
    [
        ("score < 40", scored(39.99), scored(40.0)),
        ("score <= 40", scored(40.0), scored(40.01)),
        ("score > 40", scored(40.01), scored(40.0)),
        ("score >= 40", scored(40.0), scored(39.99)),
        ("percentile >= 50", scored(50.0), scored(49.0)),
        ("interval.low < 40", scored(low=39.0), scored(low=40.0)),
        ("interval.high > 90", scored(high=91.0), scored(high=90.0)),
        ("interval.width >= 30", scored(low=50.0, high=80.0), scored(low=50.1, high=80.0)),
        ("interval crosses 65", scored(low=60.0, high=70.0), scored(low=65.0, high=70.0)),
        ("motion_blur.severity >= 0.6", scored(motion_blur=0.6), scored(motion_blur=0.59, defocus=0.9)),
        ("noise.probability > 0.5", scored(noise=0.7), scored(noise=0.5)),
        ("width < 800", scored(size=(799, 900)), scored(size=(800, 700))),
        ("height < 800", scored(size=(900, 799)), scored(size=(700, 800))),
        ("shorter_side < 800", scored(size=(900, 799)), scored(size=(900, 800))),
        ("longer_side > 800", scored(size=(700, 801)), scored(size=(700, 800))),
        ("megapixels < 0.7", scored(size=(1000, 699)), scored(size=(1000, 700))),
        ("aspect > 2", scored(size=(300, 601)), scored(size=(300, 600))),
        ("format is PNG, WEBP", scored(format_="WEBP"), scored(format_="JPEG")),
        ("format is not JPEG, HEIC", scored(format_="GIF"), scored(format_="HEIC")),
        ("warnings include out_of_domain, grayscale", scored(warnings=(OUTSIDE,)), scored()),
        ("warnings do not include out_of_domain", scored(), scored(warnings=(OUTSIDE, ImageWarning.EXIF_ROTATED))),
        ("noise.severity >= 0.5 and megapixels < 1", scored(noise=0.6, size=(900, 900)), scored(noise=0.6)),
    ],
)
def test_conditions(condition: str, meets: QualityScore, fails: QualityScore, tmp_path: Path) -> None:
    own = policy(tmp_path, f"reject when {condition}")
    assert own.decide(meets).outcome == "reject"
    assert own.decide(fails).outcome == "accept"


def test_the_first_rule_that_holds_decides_and_all_with_its_outcome_are_reasons(tmp_path: Path) -> None:
    own = policy(
        tmp_path,
        "accept when score >= 90",
        "reject when noise.severity >= 0.5",
        "review when interval crosses 50",
        "reject when shorter_side < 1000",
        otherwise='"review"',
    )
    assert [rule.outcome for rule in own.rules] == ["accept", "reject", "review", "reject"]
    assert own.decide(scored(95.0, noise=0.9)).outcome == "accept"
    both = own.decide(scored(45.0, low=40.0, high=60.0, noise=0.7, size=(800, 900)))
    assert (both.outcome, [reason.code for reason in both.reasons]) == ("reject", ["r1", "r3"])
    assert own.decide(scored(45.0, low=40.0, high=60.0)).reasons[0].code == "r2"
    neither = own.decide(scored())
    assert (neither.outcome, neither.reasons) == ("review", ())


def test_a_reason_tells_value_threshold_severity_and_message(tmp_path: Path) -> None:
    text = (
        '[own]\n[[own.rules]]\ncode = "shaken"\nrule = "reject when motion_blur.severity >= 0.6"\n'
        'message = "It is shaken: {value:.1f}, and {threshold} is the limit."\n'
        '[[own.rules]]\ncode = "small"\nrule = "reject when shorter_side < 500"\n'
    )
    own = policies(tmp_path, text)["own"]
    decision = own.decide(scored(motion_blur=0.72, size=(400, 900))).to_dict()
    assert decision == {
        "outcome": "reject",
        "policy": "own",
        "version": own.version,
        "reasons": [
            {
                "code": "shaken",
                "field": "motion_blur.severity",
                "operator": ">=",
                "value": 0.72,
                "threshold": 0.6,
                "severity": 0.72,
                "message": "It is shaken: 0.7, and 0.6 is the limit.",
            },
            {
                "code": "small",
                "field": "shorter_side",
                "operator": "<",
                "value": 400,
                "threshold": 500.0,
                "severity": None,
                "message": "its shorter side in pixels is 400, and should be at least 500",
            },
        ],
    }


@pytest.mark.parametrize("field", [*NUMBERS, "interval", "format", "warnings"])
def test_each_field_has_an_english_message(field: str, tmp_path: Path) -> None:
    conditions = {
        "interval": "interval crosses 50",
        "format": "format is GIF",
        "warnings": "warnings include grayscale",
    }
    own = policy(tmp_path, f"reject when {conditions.get(field, f'{field} >= 0')}")
    grey = scored(55.0, low=40.0, high=60.0, format_="GIF", warnings=(ImageWarning.GRAYSCALE,))
    (reason,) = own.decide(grey).reasons
    assert len(reason.message) > 15
    assert "{" not in reason.message


def test_messages_in_other_languages(tmp_path: Path) -> None:
    (tmp_path / "policies.de.toml").write_text('[own]\nsmall = "Das Foto hat nur {value:g} Pixel."\n', encoding="utf-8")
    text = (
        '[own]\n[[own.rules]]\ncode = "small"\nrule = "reject when width < 500"\nmessage = "Too small."\n'
        '[[own.rules]]\ncode = "noisy"\nrule = "reject when noise.severity > 0.5"\nmessage = "Noisy."\n'
    )
    own = policies(tmp_path, text)["own"]
    assert own.languages == ("de",)
    score = scored(size=(400, 400), noise=0.9)
    assert [reason.message for reason in own.decide(score).reasons] == ["Too small.", "Noisy."]
    # What has no message in a language is told in English.
    assert [reason.message for reason in own.decide(score, "de").reasons] == ["Das Foto hat nur 400 Pixel.", "Noisy."]
    assert own.decide(score, "fr") == own.decide(score)
    (tmp_path / "policies.de.toml").write_text('[own]\nsmal = "x"\n', encoding="utf-8")
    with pytest.raises(PolicyError, match=r"policies.de.toml, line 2, own.smal: .* did you mean small\?"):
        Policies.load(tmp_path / "policies.toml")


@pytest.mark.parametrize(
    ("accepted", "language"),
    [
        ("", "en"),
        ("de", "de"),
        ("DE-at", "de"),
        ("fr;q=1, de;q=0.4", "de"),
        ("de;q=0.2, en;q=0.9", "en"),
        ("fr, es", "en"),
        ("*", "en"),
        ("de;q=zero", "de"),
        ("de;q=0", "en"),
        ("*;q=1, de;q=0", "en"),
        ("pt-BR-x-old", "pt-br"),
        ("de;Q=0.1, en;q=0.9", "en"),
        ("de;q= 0.1, en;q=0.9", "en"),
        ("de;q=0.5;x=1, en;q=0.7", "en"),
        (";;,,=", "en"),
    ],
)
def test_the_language_is_the_first_that_there_is(accepted: str, language: str) -> None:
    assert language_of(accepted, ["de", "pt-br"]) == language


def test_a_version_follows_from_all_that_decides_and_is_said(tmp_path: Path) -> None:
    versions = [
        policy(tmp_path, "reject when score < 40").version,
        policy(tmp_path, "reject when score < 41").version,
        policy(tmp_path, "review when score < 40").version,
        policy(tmp_path, "reject when score < 40", otherwise='"review"').version,
    ]
    assert len({*versions}) == 4
    assert all(version.startswith("sha256:") and len(version) == 71 for version in versions)
    # Which keys a policy is bound to, and what it is for, change no decision.
    assert policy(tmp_path, "reject when score < 40", keys='["ann"]', about='"x"').version == versions[0]


def test_policies_travel_between_processes(tmp_path: Path) -> None:
    own = policy(tmp_path, "reject when noise.severity >= 0.5", "review when warnings include grayscale")
    again = pickle.loads(pickle.dumps(own))
    assert again == own
    assert again.decide(scored(noise=0.7)) == own.decide(scored(noise=0.7))


RULE = '[own]\n[[own.rules]]\ncode = "x"\n'


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "policies.toml: there are no policies in it"),
        ("[own\n", "policies.toml: Expected ']'"),
        ("[Own]\n", "policies.toml, line 1, Own: names are of a to z"),
        ('own = "x"\n', "policies.toml, line 1, own: must be a table"),
        ("# none\n[own]\nabout = 'x'\n", "policies.toml, line 2, own.rules: there must be 1 to 100 rules, not 0"),
        ("[own]\nabot = 'x'\n", "line 2, own.abot: there is no such field; did you mean about?"),
        ("[own]\notherwise = 'pass'\n", "line 2, own.otherwise: 'pass' is none of accept, review, reject"),
        ("[own]\nkeys = [1]\n", "line 2, own.keys: must be names of keys"),
        ("[own]\nrules = 'x'\n", "line 2, own.rules: must be a list"),
        (RULE, "line 2, own.rules[0]: rule is missing"),
        ('[own]\n[[own.rules]]\nrule = "reject when score < 1"\n', "line 2, own.rules[0]: code is missing"),
        (f'{RULE}rule = "reject if score < 40"\n', "line 4, own.rules[0].rule: write OUTCOME when CONDITION"),
        (f'{RULE}rule = "rejected when score < 40"\n', "'rejected' is no outcome; did you mean reject?"),
        (f'{RULE}rule = "reject when scor < 40"\n', "there is no 'scor' to compare; did you mean score?"),
        (f'{RULE}rule = "reject when motionblur.severity < 1"\n', "did you mean motion_blur.severity?"),
        (f'{RULE}rule = "reject when score < low"\n', "'score < low' is not understood; conditions are"),
        (f'{RULE}rule = "reject when score == 4"\n', "'score == 4' is not understood"),
        (f'{RULE}rule = "reject when format is JPG"\n', "there is no format 'JPG'"),
        (f'{RULE}rule = "reject when warnings include rotated"\n', "there is no warning 'rotated'"),
        (
            f'{RULE}rule = "reject when score < 40"\nmesage = "x"\n',
            "line 5, own.rules[0].mesage: there is no such field",
        ),
        (f'{RULE}rule = "reject when score < 40"\nmessage = ""\n', "must be text of 1 to 1000 characters"),
        (
            f'{RULE}rule = "reject when score < 40"\nmessage = "{{score}}"\n',
            "line 5, own.rules[0].message: its braces cannot",
        ),
        (f'{RULE}rule = "reject when score < 40"\nmessage = "{{value.x}}"\n', "object has no attribute 'x'"),
        (f'{RULE}rule = "reject when score < 40"\nmessage = "{{"\n', "its braces cannot be filled"),
        (f'{RULE}rule = "reject when score < 40 and score > 60"\n', "line 4, own.rules[0].rule: 'reject when"),
        (f'{RULE}rule = "reject when noise.severity > 1"\n', "can never hold"),
        (f'{RULE}rule = "reject when interval crosses 0"\n', "can never hold"),
        (f'{RULE}rule = "reject when format is PNG and format is not PNG"\n', "can never hold"),
        (
            f'{RULE}rule = "reject when warnings include grayscale and warnings do not include grayscale"\n',
            "can never hold",
        ),
    ],
)
def test_refusals_name_line_and_field(text: str, told: str, tmp_path: Path) -> None:
    assert told in refusal(tmp_path, text)


def test_a_rule_that_is_never_reached_is_refused_with_the_one_before_it(tmp_path: Path) -> None:
    text = (
        '[own]\n[[own.rules]]\ncode = "low"\nrule = "reject when score < 40"\n'
        '# A comment.\n[[own.rules]]\ncode = "unsure"\nrule = "review when score < 30"\n'
    )
    told = refusal(tmp_path, text)
    assert told.startswith("policies.toml, line 8, own.rules[1].rule: 'review when score < 30' never decides")
    assert told.endswith("an earlier rule does (low; the last is in line 4)")


def reachable(tmp_path: Path, *rules: str) -> str:
    """The code of the first rule that is refused; "" if none is."""
    try:
        policy(tmp_path, *rules)
    except PolicyError as error:
        return str(error).partition("rules[")[2].partition("]")[0]
    return ""


@pytest.mark.parametrize(
    ("rules", "refused"),
    [
        (("reject when score < 40", "review when score < 30"), "1"),
        (("reject when score < 40", "reject when score < 30"), ""),
        (("reject when score < 40", "accept when score >= 40", "review when noise.severity > 0.5"), "2"),
        (("reject when score < 40", "accept when score > 40", "review when noise.severity > 0.5"), ""),
        (("reject when score <= 40", "accept when score > 40", "reject when noise.severity > 0.5"), ""),
        (("accept when format is JPEG", "reject when format is not PNG", "review when format is JPEG, GIF"), "2"),
        (("accept when warnings include grayscale", "reject when warnings include grayscale, out_of_domain"), ""),
        (("accept when warnings include grayscale, out_of_domain", "reject when warnings include grayscale"), "1"),
        (("review when interval crosses 40", "reject when interval crosses 40 and score < 50"), "1"),
        (("review when interval.low < 40", "reject when interval crosses 40"), "1"),
        (("accept when width >= 0", "reject when score < 10"), "1"),
    ],
)
def test_reach(rules: tuple[str, ...], refused: str, tmp_path: Path) -> None:
    assert reachable(tmp_path, *rules) == refused


def test_reach_agrees_with_trying_all_scores(tmp_path: Path) -> None:
    """Three rules of every kind in every order, against scores at and beside all thresholds."""
    made = [
        "reject when score < 40",
        "accept when score >= 40 and noise.severity < 0.5",
        "review when noise.severity >= 0.5",
        "accept when score < 20",
        "reject when score >= 20 and score < 40 and noise.severity > 0.2",
        "review when score > 60",
    ]
    values = [
        scored(score, noise=noise)
        for score in (0.0, 19.0, 20.0, 21.0, 39.0, 40.0, 41.0, 60.0, 61.0, 100.0)
        for noise in (0.0, 0.2, 0.3, 0.49, 0.5, 0.6, 1.0)
    ]
    for chosen in itertools.permutations(made, 3):
        refused = reachable(tmp_path, *chosen)
        rules = [(rule.split()[0], parse(rule.split(" when ")[1])) for rule in chosen]
        holding = [[all(part.holds(value) for part in parts) for _, parts in rules] for value in values]
        has_say = [
            any(row[place] and rules[row.index(True)][0] == rules[place][0] for row in holding) for place in range(3)
        ]
        assert refused == ("" if all(has_say) else str(has_say.index(False))), chosen


def test_many_rules_are_checked_in_no_time(tmp_path: Path) -> None:
    pairs = [f"review when {name}.severity >= 0.4 and {name}.probability >= 0.7" for name in DEFECTS]
    sides = [
        f"review when {side} >= {number} and score >= {number}" for side in ("width", "height") for number in (10, 20)
    ]
    rules = [*pairs, *sides, *(f"review when megapixels > {n} and aspect > {n}" for n in range(9, 2, -1))]
    assert reachable(tmp_path, *rules, "reject when interval.low < 30") == ""


@pytest.mark.parametrize(
    ("condition", "message", "told"),
    [
        ("format is GIF", "{value:g}", "with text: Unknown format code 'g'"),
        ("warnings include grayscale", "{threshold:.1f}", "with text: Unknown format code 'f'"),
        ("width < 9", "{value:d}", "with a number: Unknown format code 'd'"),
        ("width < 9", "{value:{threshold}}", "there may be {value} and {threshold}"),
        ("width < 9", "{value!r:>{threshold}}", "there may be {value} and {threshold}"),
        ("format is GIF", "{}", "its braces cannot be filled"),
    ],
)
def test_a_message_that_could_not_be_written_is_refused(
    condition: str, message: str, told: str, tmp_path: Path
) -> None:
    assert told in refusal(tmp_path, f'{RULE}rule = "reject when {condition}"\nmessage = "{message}"\n')


def test_a_reason_tells_of_the_defect_where_other_conditions_come_first(tmp_path: Path) -> None:
    own = policy(tmp_path, "reject when megapixels >= 1 and noise.severity >= 0.5")
    (reason,) = own.decide(scored(noise=0.7)).reasons
    assert (reason.field, reason.value, reason.severity) == ("noise.severity", 0.7, 0.7)
    assert reason.message == "the picture is noisy (noise.severity is 0.7, the limit is 0.5)"
    (reason,) = policy(tmp_path, "accept when score >= 50").decide(scored()).reasons
    assert reason.message == "its score is 70"
    own = policy(tmp_path, "reject when warnings do not include exif_rotated")
    (reason,) = own.decide(scored(warnings=(ImageWarning.GRAYSCALE,))).reasons
    assert reason.message == "there is no warning exif_rotated"


GOOD = 'code = "x"\nrule = "reject when score < 4"\n'
BAD = 'code = "y"\nrule = "no"\n'


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (f'[a]\n[[a.rules]]\n{GOOD}\n[b]\nabout = "x"\nrules = [ {{code = "y", rule = "no"}} ]\n', 8),
        (f'["b"]\n\n[[b."rules"]]\n{BAD}', 5),
        (f'[a]\n[[a.rules]]\nmessage = """\n[Note]\nrule = 3\n"""\n{BAD}', 8),
        (f"[[a.rules]]\n{GOOD}[[b.rules]]\n{GOOD}[[a.rules]]\n{BAD}", 9),
        (f'[a]\nabout = "x\u2028y"\n[[a.rules]]\n{BAD}', 5),
        (f"[a]\n[[a.rules]]\n{GOOD}[a.bad]\n", 1),
        ('a.rules = [{code = "y", rule = "no"}]\n', None),
    ],
)
def test_the_line_is_the_right_one(text: str, line: int | None, tmp_path: Path) -> None:
    told = refusal(tmp_path, text)
    assert f"line {line}," in told if line else "line" not in told, told


def test_which_files_hold_translations(tmp_path: Path) -> None:
    for name in ("own.old.toml", "own.new.toml", "own.en.toml", "own.bak", "others.de.toml"):
        (tmp_path / name).write_text("[nothing]\n", encoding="utf-8")
    (tmp_path / "own.pt_BR.toml").write_text('[own]\nx = "Escuro."\n', encoding="utf-8-sig")
    own = policies(tmp_path, f'{RULE}rule = "reject when score < 40"\n', "own.toml")["own"]
    assert own.languages == ("pt-br",)
    assert own.decide(scored(30), "pt-br").reasons[0].message == "Escuro."
    assert own.speaking("PT-BR").decide(scored(30)).reasons[0].message == "Escuro."
    assert own.speaking("de").language == "en"


def test_odd_values_are_refused(tmp_path: Path) -> None:
    assert "is not understood" in refusal(tmp_path, f'{RULE}rule = "reject when width < {"9" * 310}"\n')
    assert "can never hold" in refusal(tmp_path, f'{RULE}rule = "reject when aspect < 1"\n')
    twice = f'{RULE}rule = "reject when score < 4"\n' + '[[own.rules]]\ncode = "x"\nrule = "review when score < 9"\n'
    assert "line 6, own.rules[1].code: an earlier rule has the code x already" in refusal(tmp_path, twice)
    assert "must be names of keys" in refusal(tmp_path, '[own]\nkeys = ["ann "]\n')


def test_a_key_has_one_policy(tmp_path: Path) -> None:
    own = policy(tmp_path, "reject when score < 40", keys='["ann", "bob"]')
    found = Policies({"own": own})
    assert (found.for_key("bob"), found.for_key("eve"), found.for_key("")) == (own, None, None)
    text = "".join(
        f'[{name}]\nkeys = ["ann"]\n[[{name}.rules]]\ncode = "x"\nrule = "reject when score < 4"\n'
        for name in ("a", "b")
    )
    assert "line 7, b.keys: 'ann' is bound to a already" in refusal(tmp_path, text)


def test_unknown_names_get_a_suggestion() -> None:
    with pytest.raises(UnknownPolicy, match=r"there is no policy 'marketplac'; did you mean marketplace\?"):
        Policies.load()["marketplac"]


def test_what_a_checkpoint_does_not_tell(tmp_path: Path) -> None:
    plain = replace(CONTRACT, defects=(), interval=None, percentiles=())
    asked = {
        "reject when noise.severity > 0.5": "noise",
        "reject when interval crosses 4": "interval",
        "reject when interval.low < 4": "interval",
        "reject when percentile < 4": "percentile",
        "reject when score < 40": None,
        "reject when width < 40": None,
    }
    for rule, lacking in asked.items():
        assert policy(tmp_path, rule).lacking(plain, "sha256:0") == lacking
        assert policy(tmp_path, rule).lacking(CONTRACT, "sha256:0") is None


def test_the_shipped_policies() -> None:
    shipped = Policies.load()
    assert list(shipped.by_name) == ["marketplace", "documentation", "portrait"]
    assert SHIPPED.is_file()
    for own in shipped:
        assert own.about
        assert all(rule.message for rule in own.rules)
        assert own.decide(scored(85.0, low=80.0, high=90.0)).outcome == "accept"
        assert own.decide(scored(motion_blur=0.8)).outcome == "reject"
        assert own.describe()["rules"][0]["rule"] == own.rules[0].text
        for name in DEFECTS:
            assert own.decide(scored(severities={name: 1.0})).outcome in OUTCOMES
    assert shipped["marketplace"].decide(scored(warnings=(OUTSIDE,))).reasons[0].code == "no_photo"
    assert {*FORMATS} >= {"JPEG"}
