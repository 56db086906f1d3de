"""Which things go, in which order, under which limits."""

from random import Random

import pytest

from chimage_core.ops import prune_policy as policy
from chimage_core.ops.prune_policy import Item, Limits, chosen, enough

NOW = 1_000_000.0
DAY = 86_400


def item(name: str, days: float, *, kind: str = policy.STATES, needs: str = "", group: str = "", size: int = 0) -> Item:
    """Return an item that was last used so many days ago and needs the items that are the letters of `needs`."""
    return Item(kind, name, name, NOW - days * DAY, group, tuple(needs), size)


def names(items: list[Item]) -> str:
    return "".join(each.name for each in items)


def test_kinds_go_in_their_order_and_within_one_the_least_recently_used_goes_first() -> None:
    items = [item("i", 9, kind=policy.IMAGES), item("b", 1), item("d", 5, kind=policy.DOWNLOADS), item("a", 3)]
    assert names(chosen(items, Limits(), NOW)) == "abdi"


def test_a_state_goes_after_those_that_were_made_from_it() -> None:
    """It could not go before: they keep it. What is needed counts as used when they were."""
    items = [item("a", 9), item("b", 8, needs="a"), item("c", 2, needs="b"), item("x", 5)]
    assert names(chosen(items, Limits(), NOW)) == "xcba"


def test_what_was_used_lately_stays_with_all_that_it_needs() -> None:
    items = [item("a", 9), item("b", 1, needs="a"), item("c", 8, needs="a"), item("d", 7)]
    assert names(chosen(items, Limits(older_than=2 * DAY), NOW)) == "cd"


def test_so_many_stay_and_what_they_need_is_not_counted() -> None:
    """Two chains of three: each is one result, and its steps are of no use without it."""
    items = [item("a", 5), item("b", 5, needs="a"), item("c", 5, needs="b")]
    items += [item("x", 3), item("y", 3, needs="x"), item("z", 3, needs="y")]
    assert names(chosen(items, Limits(keep_last=1), NOW)) == "cba"
    assert names(chosen(items, Limits(keep_last=2), NOW)) == ""


def test_of_each_group_so_many_stay() -> None:
    deleted = [item(name, days, kind=policy.DELETED, group=name[0]) for name, days in (("a1", 3), ("a2", 2), ("b1", 9))]
    assert names(chosen(deleted, Limits(keep_last=1), NOW)) == "a1"


def test_both_limits_have_to_allow_it() -> None:
    items = [item("a", 9), item("b", 8), item("c", 1)]
    assert names(chosen(items, Limits(older_than=2 * DAY, keep_last=1), NOW)) == "ab"
    assert names(chosen(items, Limits(older_than=2 * DAY, keep_last=2), NOW)) == "a"


@pytest.mark.parametrize("kind", sorted(policy.USELESS))
def test_nothing_spares_what_nobody_needs(kind: str) -> None:
    assert names(chosen([item("a", 0, kind=kind)], Limits(older_than=DAY, keep_last=9), NOW)) == "a"


def test_no_more_goes_than_the_goal_needs() -> None:
    items = [item(name, 1, size=10) for name in "abcd"]
    assert [names(enough(items, goal)) for goal in (-5, 0, 1, 10, 11, 40, 99)] == [
        "",
        "",
        "a",
        "a",
        "ab",
        "abcd",
        "abcd",
    ]


def test_any_history_keeps_its_order_and_its_dependencies() -> None:
    random = Random(7)
    for _ in range(300):
        letters = "abcdefghijkl"[: random.randint(1, 12)]
        items = [
            item(
                letter, random.randint(0, 5), needs=random.choice(["", random.choice(letters[:number] or " ")]).strip()
            )
            for number, letter in enumerate(letters)
        ]
        random.shuffle(items)
        order = names(chosen(items, Limits(), NOW))
        assert sorted(order) == sorted(letters)
        for each in items:
            assert all(order.index(each.name) < order.index(need) for need in each.needs)
        limits = Limits(random.choice([None, 3 * DAY]), random.choice([None, 1, 2]))
        gone = names(chosen(items, limits, NOW))
        for each in items:
            assert each.name in gone or not any(need in gone for need in each.needs), "what stays keeps what it needs"
