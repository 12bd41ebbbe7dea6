"""Neighbourhoods of a few scenarios: answers to the whole question, never farther, never below the optimum."""

import time
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reference import exact_distance, random_question

from arfj.attack import few, neighbourhood, warm
from arfj.attack.few import search_few, worth_while
from arfj.attack.regions import Corner, Regions, drawn_towards
from arfj.attack.warm import warm_start
from arfj.question import Demand


def corners(question):
    """Of the regions of some answers, the farthest last."""
    regions = Regions(question)
    points = np.random.default_rng(0).random((300, question.flat.size))
    found = [regions.at(x) for x in points if question.slack(x) >= 1e-6]
    return regions, sorted((one for one in found if one is not None), key=lambda corner: corner.distance)


def search(regions, corner):
    return search_few(regions, corner, time.perf_counter() + 30)


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 2**20), scenarios=st.integers(2, 5))
def test_answers_of_the_whole_question(seed, scenarios):
    question = random_question(seed, scenarios, 0.1)
    regions, found = corners(question)
    for corner in found[-1:]:
        near = search(regions, corner)
        assert question.slack(near.x) >= 0
        assert exact_distance(question) * (1 - 1e-6) <= near.distance <= corner.distance
        assert near is corner or question.distance(near.x) == near.distance


def test_comes_to_the_optimum_by_scenarios_that_join(monkeypatch):
    """All neurons are free: what joins leads to the optimum of the whole question, from an answer far off."""
    monkeypatch.setattr(neighbourhood, "MOST", 1.0)
    joined, honest = [], few.drawn_towards

    def drawn(question, x, answer):
        joined.append(len(question.ensemble))
        return honest(question, x, answer)

    monkeypatch.setattr(few, "drawn_towards", drawn)
    gained = 0
    for seed in range(12):
        question = random_question(seed, 4, 0.1)
        regions, found = corners(question)
        if found:
            near = search(regions, found[-1])
            gained += near.distance < found[-1].distance * 0.999
            assert near.distance == pytest.approx(exact_distance(question), rel=1e-5)
    assert gained > 3
    assert joined


def test_nothing_to_gain_and_no_time():
    question = random_question(4, 3, 0.1)
    regions, found = corners(question)
    assert search_few(regions, found[-1], 0.0) is found[-1]
    unbound = Corner(found[-1].x, found[-1].distance, found[-1].phases)
    assert search(regions, unbound) is unbound


def test_soft_demands_have_none(monkeypatch):
    soft = Regions(replace(random_question(4, 3, 0.1), demand=Demand(share=0.5)))
    regions, found = corners(random_question(4, 3, 0.1))
    monkeypatch.setattr(few, "MANY", 1)
    assert worth_while(regions)
    assert not worth_while(soft)
    with pytest.raises(ValueError, match="soft demand"):
        search(soft, found[-1])


def test_the_warm_start_ends_with_it_where_there_are_many(monkeypatch):
    question = random_question(5, 3, 0.1)
    asked, honest = [], warm.search_few

    def noted(regions, corner, deadline):
        asked.append(corner)
        return honest(regions, corner, deadline)

    monkeypatch.setattr(warm, "search_few", noted)
    assert not worth_while(Regions(question))
    few_of_them = warm_start(question, 0, time.perf_counter() + 20)
    assert not asked
    monkeypatch.setattr(few, "MANY", 2)
    many = warm_start(question, 0, time.perf_counter() + 20)
    assert len(asked) == 1
    assert many.distance <= few_of_them.distance * (1 + 1e-9)


def test_drawn_towards_an_answer():
    question = random_question(4, 2, 0.1)
    _, found = corners(question)
    answer = found[-1].x
    x = drawn_towards(question, question.flat, answer)
    assert question.slack(x) >= 0
    assert question.distance(x) <= question.distance(answer)
    assert question.slack(x + 1e-4 * (question.flat - x)) < 0
