"""Who needs what in the repository: compared with what is found by walking each image by itself."""

from random import Random

from chimage_core.cache.git.reachability import Reach, stored_sizes
from chimage_core.cache.git.sharing import Sharing, by_heads
from chimage_core.cancel import CancelToken
from tests.core.cache.support import Site, commit
from tests.support.image_trees import change_tree, make_tree


def test_sets_are_those_of_walking_each_head(site: Site) -> None:
    """For histories that part at different steps, with trees that move and come back."""
    random, cache = Random(5), site.cache()
    tips = []
    for name in ("a", "b"):
        place = site.place(name)
        make_tree(place.root, random)
        snapshot = commit(cache, place, key=name.encode())
        for step in range(4):
            change_tree(place.root, random, 6)
            snapshot = commit(cache, place, snapshot, key=b"%d" % step)
            tips.append(bytes.fromhex(snapshot.token))
    heads = random.sample([*tips[:3], *tips[4:7]], 4)  # Not the last ones: nobody needs these.
    store = cache.engine.store
    sharing = Sharing(store, heads, CancelToken())
    expected: dict[bytes, int] = {}
    for number, head in enumerate(heads):
        reach = Reach(store, CancelToken())
        reach.add([head])
        for found in reach.objects:
            expected[found] = expected.get(found, 0) | 1 << number
    assert sharing.objects == expected
    sizes = stored_sizes(store)
    sums = by_heads(sharing.objects, sizes)
    assert sum(sums.values()) == sum(sizes.values())
    assert sums[0] == sum(size for each, size in sizes.items() if each not in expected)


def test_one_head_twice(site: Site) -> None:
    cache, place = site.cache(), site.place("a")
    make_tree(place.root, Random(1))
    head = bytes.fromhex(commit(cache, place).token)
    assert set(Sharing(cache.engine.store, [head, head], CancelToken()).objects.values()) == {0b11}


def test_nothing(site: Site) -> None:
    assert Sharing(site.cache().engine.store, [], CancelToken()).objects == {}
