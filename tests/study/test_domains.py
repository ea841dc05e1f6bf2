import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pace_tune.errors import ConfigError
from pace_tune.study.domains import ChoiceDomain, FloatDomain, IntDomain, is_domain, parse_domain

NUMBERS = st.floats(min_value=-1e6, max_value=1e6)
WHOLE = st.integers(min_value=-(2**40), max_value=2**40)


def domains() -> st.SearchStrategy[Any]:
    floats = st.tuples(NUMBERS, NUMBERS).map(lambda ends: FloatDomain(min(ends), max(ends)))
    logs = st.tuples(st.floats(1e-9, 1e6), st.floats(1e-9, 1e6)).map(lambda ends: FloatDomain(min(ends), max(ends), log=True))
    ints = st.tuples(WHOLE, WHOLE, st.integers(1, 50)).map(lambda parts: IntDomain(min(parts[:2]), max(parts[:2]), step=parts[2]))
    log_ints = st.tuples(st.integers(1, 2**40), st.integers(1, 2**40)).map(lambda ends: IntDomain(min(ends), max(ends), log=True))
    choices = st.lists(st.one_of(st.booleans(), WHOLE, st.text(), st.none()), min_size=1, unique_by=repr).filter(
        lambda values: len({(value == 1 or value == 0, isinstance(value, bool), value) for value in values}) == len(values)
    )
    return st.one_of(floats, logs, ints, log_ints, choices.map(tuple).map(ChoiceDomain))


@given(domains())
def test_a_domain_holds_its_middle_and_its_probes_and_survives_writing(domain):
    assert domain.contains(domain.middle())
    assert all(domain.contains(value) for value in domain.probes())
    assert parse_domain(domain.as_mapping(), path="x") == domain


@pytest.mark.parametrize(
    ("mapping", "middle"),
    [
        ({"float": [0.0, 1.0]}, 0.5),
        ({"float": [1e-4, 1e-2], "log": True}, 1e-3),
        ({"float": ["1e-4", "1e-2"], "log": True}, 1e-3),
        ({"int": [2, 16]}, 9),
        ({"int": [2, 16], "step": 2}, 8),
        ({"int": [1, 64], "log": True}, 8),
        ({"int": [3, 3]}, 3),
        ({"choice": [0.02, 0.1, 1.0]}, 0.1),
        ({"choice": ["b", "a"]}, "b"),
    ],
)
def test_the_middle(mapping, middle):
    assert parse_domain(mapping, path="x").middle() == middle


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (FloatDomain(0.1, 2.0), [0.1, 1, 2.0], [0.0, 2.1, "1", True, None, math.nan]),
        (IntDomain(2, 9, step=2), [2, 4, 8, 4.0], [3, 9, 10, 2.5, "2", True]),
        (ChoiceDomain((1, "a", False)), [1, 1.0, "a", False], [True, 0, "b", None]),
    ],
)
def test_membership(domain, inside, outside):
    assert all(domain.contains(value) for value in inside)
    assert not any(domain.contains(value) for value in outside)


def test_grids_count_what_can_be_counted():
    assert list(IntDomain(2, 9, step=3).grid()) == [2, 5, 8]
    assert list(ChoiceDomain(("a", "b")).grid()) == ["a", "b"]
    assert FloatDomain(0.0, 1.0).grid() is None
    assert len(IntDomain(0, 2**40).grid()) == 2**40 + 1


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        ({"float": [2, 1]}, "x: `low <= high` must hold, but got low=2, high=1."),
        ({"float": [0, 1], "log": True}, "x: `low > 0 on a log scale` must hold, but got low=0."),
        ({"float": [1]}, "x: a domain has two ends, float: [low, high], but got [1]."),
        ({"float": [1, "many"]}, "x: an end is a finite number, but got 'many'."),
        ({"float": [1, math.inf]}, "x: an end is a finite number, but got inf."),
        ({"int": [1, 2.5]}, "x: an end is a whole number, but got 2.5."),
        ({"int": [1, 10**400]}, "x: an end is a whole number, but got 1000"),
        ({"int": [1, 9], "step": 0}, "x: `step is a whole number >= 1` must hold, but got step=0."),
        ({"int": [1, 9], "step": 2, "log": True}, "x: `step = 1 on a log scale` must hold, but got step=2."),
        ({"float": [1, 2], "lgo": True}, "x: unknown key 'lgo' of a domain of kind 'float'. Did you mean 'log'?"),
        ({"float": [1, 2], "int": [1, 2]}, "x: a domain is of one kind, but got float and int."),
        ({"float": [1, 2], "log": "yes"}, "x: `log is true or false` must hold, but got log='yes'."),
        ({"choice": []}, "x: choices are a list of at least one value, but got []."),
        ({"choice": "abc"}, "x: choices are a list of at least one value, but got 'abc'."),
        ({"choice": [1, [2]]}, "x: a choice is a plain value, but got [2]."),
        ({"choice": [1, 2, 1.0]}, "x: choices are different from each other, but 1.0 comes twice."),
    ],
)
def test_what_is_no_domain(mapping, message):
    with pytest.raises(ConfigError) as caught:
        parse_domain(mapping, path="x")
    assert str(caught.value).startswith(message)
    assert caught.value.path == "x"


def test_only_mappings_with_a_kind_are_meant_as_domains():
    assert is_domain({"choice": []})
    assert not is_domain({"rank": 3})
    assert not is_domain("float")
