"""All scenarios, with the goal for each figure. bench/README.md tells what each row is."""

import itertools
import os
import shutil

from bench import disk, inputs, registry
from bench.workloads import MB, NO_GOAL, Comparison, Difference, Goal, Scenario, Step, built, seconds_of_last_step

HIT, LONG_HIT = Goal(seconds=0.10), Goal(seconds=0.15)
LAST = Goal(ratio=0.3)
LARGE_PEAK = 100 * MB
PULL_PEAK = 150 * MB
DEBIAN_FILES, LARGE_FILES = 5_000, 50_000
"""An unpacked image has at least so many."""
MORE_RUNS = {"Debian": 20, "50,000 files": 5}
"""How many RUNs the cost of one is taken from: ch-image needs 3 s for each on the larger image."""


def scenarios() -> list[Scenario]:
    """Return all scenarios, in the order in which they run."""
    return [_start(), _debian(), _cycle(), _gc(), _heavy(), _copy(), _large(), _pull(), _pull_large(), _push()]


def _start() -> Scenario:
    return Scenario(
        "start",
        [
            Step("--help", ["--help"], Goal(seconds=0.1)),
            Step("--version", ["--version"], Goal(seconds=0.1)),
            Step("import tiny image", ["import", "../shared/tiny", "tiny:1"]),
            Step(
                "list of 1,000 images",
                ["list"],
                Goal(seconds=0.1),
                before=_many_images,
                # With its cache it wants a Git worktree for each, and would only be slower.
                their_argv=["list", "--no-cache"],
            ),
        ],
        prepare=lambda shared: inputs.tiny_image(os.path.join(shared, "tiny")),
    )


def _debian() -> Scenario:
    return Scenario(
        "debian",
        [
            _import("Debian", Goal(ratio=0.5)),
            *_cheap("Debian", 3, (Goal(ratio=0.5), HIT, LAST)),
            *_cheap("Debian", 20, (Goal(ratio=0.2), HIT, LAST)),
            *_cheap("Debian", 129, (Goal(ratio=0.16), LONG_HIT, LAST)),
        ],
        [
            Difference(
                "Debian, one RUN of many",
                "Debian, 129 miss",
                "Debian, 3 miss",
                Goal(ratio=0.2, seconds=0.065),
                per=126,
            )
        ],
        debian=True,
    )


def _cycle() -> Scenario:
    goals = {
        "first commit": Goal(ratio=0.4),
        "delete": Goal(seconds=0.10),
        "undelete": Goal(ratio=0.4),
    }
    steps, differences = _life("Debian", "../shared/debian.tar", DEBIAN_FILES, goals)
    return Scenario("cycle", steps, differences, debian=True)


def _gc() -> Scenario:
    states = f"Debian, {inputs.RELATED_STATES} related states"
    related = inputs.related("base")
    misses = inputs.RELATED_STATES - 1
    return Scenario(
        "gc",
        [
            _import("Debian, to be collected", NO_GOAL),
            built(states, related, misses),
            Step(
                "build-cache --gc",
                ["build-cache", "--gc"],
                Goal(ratio=0.3, disk=1.1),
                before=disk.remember_best,
                disk=disk.objects,
            ),
            built(f"{states}, hit after gc", related, 0, HIT),
            Step("delete after gc", ["delete", "bench"], leaves=("bench", 0)),
            built("checkout after gc", related, 0, Goal(ratio=0.4), leaves=DEBIAN_FILES + 300 * misses),
        ],
        debian=True,
    )


def _heavy() -> Scenario:
    return Scenario(
        "heavy",
        [
            _import("Debian again", Goal(ratio=0.5)),
            built("heavy RUN miss", inputs.heavy("base"), 1, Goal(ratio=0.35)),
            built("heavy RUN hit", inputs.heavy("base"), 0, HIT),
            built("heavy RUN hit, new ENV", inputs.heavy("base", more="ENV a=b"), 1, Goal(seconds=0.1)),
            built("heavy RUN, back without ENV", inputs.heavy("base"), 0),
            built("heavy RUN hit, new RUN", inputs.heavy("base", more="RUN echo > /etc/b"), 1, Goal(seconds=0.2)),
        ],
        debian=True,
    )


def _copy() -> Scenario:
    dockerfile = "FROM base\nCOPY . /opt/data/\n"
    # The files of the stage are there already when it comes to COPY.
    current = "FROM base\nWORKDIR /opt/current\nCOPY . data/\n"
    context = "../shared/context"
    step, plain = "COPY 10,000 files, the step alone", "cp -a of the 10,000 files"
    return Scenario(
        "copy",
        [
            _import("Debian once more", NO_GOAL),
            built("COPY 10,000 files, miss", dockerfile, 1, Goal(ratio=0.25), context=context),
            built("COPY 10,000 files, hit", dockerfile, 0, Goal(ratio=0.06, seconds=0.15), context=context),
            Step(plain, ["-a", context, "copied"], before=_remove_copied, program="cp", ours_only=True),
            Step(
                step,
                ["build", "--json", "-t", "current", "-f", "Dockerfile", context],
                files={"Dockerfile": current},
                leaves=("current", inputs.CONTEXT_FILES),
                ours_only=True,
                wall_of=seconds_of_last_step,
            ),
        ],
        comparisons=[Comparison("COPY, the step by cp -a", step, plain, Goal(wall=1.5))],
        prepare=lambda shared: inputs.large_context(os.path.join(shared, "context")),
        debian=True,
    )


def _remove_copied(directory: str) -> None:
    shutil.rmtree(os.path.join(directory, "copied"), ignore_errors=True)


def _large() -> Scenario:
    label = "50,000 files"
    goals = {
        "first commit": Goal(ratio=0.5, peak=LARGE_PEAK),
        "delete": Goal(peak=LARGE_PEAK),
        "undelete": Goal(ratio=0.4, peak=LARGE_PEAK),
    }
    steps, differences = _life(label, "../shared/large.tar", LARGE_FILES, goals)
    builds = _cheap(
        label,
        20,
        (Goal(ratio=0.11, peak=LARGE_PEAK), Goal(seconds=0.10, peak=LARGE_PEAK), Goal(ratio=0.1, peak=LARGE_PEAK)),
    )
    return Scenario(
        "large",
        [*steps, *builds],
        differences,
        prepare=lambda shared: inputs.large_image(os.path.join(shared, "large.tar")),
    )


def _pull() -> Scenario:
    return Scenario(
        "pull",
        [
            _pulled("Debian, 1 layer", "debian", 1, Goal(ratio=0.45, peak=PULL_PEAK)),
            Step("pull Debian, unchanged", ["pull", "REGISTRY/debian:1", "base"], Goal(ratio=0.45)),
            Step(
                "unpack Debian from its layer, no build cache",
                ["pull", "--no-cache", "REGISTRY/debian:1", "again"],
                Goal(peak=PULL_PEAK),
                ours_only=True,
            ),
            _pulled(f"{registry.MANY_LAYERS} layers", "many", registry.MANY_LAYERS, Goal(ratio=0.5, peak=PULL_PEAK)),
        ],
        prepare=registry.small_images,
        serve=registry.serving,
        debian=True,
    )


def _pull_large() -> Scenario:
    layers = registry.LARGE_LAYERS
    label = f"50,000 files, {layers} layers, {registry.LARGE_WHITEOUTS} whiteouts"
    return Scenario(
        "pull-large",
        [_pulled(label, "large", LARGE_FILES - registry.LARGE_WHITEOUTS, Goal(ratio=0.45, peak=PULL_PEAK))],
        prepare=registry.large_images,
        serve=registry.serving,
    )


def _push() -> Scenario:
    push = ["push", "bench", "REGISTRY/FRESH:1"]
    return Scenario(
        "push",
        [
            _import("Debian to push", NO_GOAL),
            # ch-image pushes only what some instruction has made.
            built("RUN, to be pushed", inputs.two_file_runs("base", 1), 1),
            Step("push Debian, nothing is there", push, Goal(ratio=0.10, peak=PULL_PEAK)),
            Step("push Debian again, unchanged", push, Goal(seconds=0.15)),
        ],
        prepare=registry.no_images,
        serve=registry.serving,
        debian=True,
    )


def _pulled(label: str, image: str, files: int, goal: Goal) -> Step:
    return Step(f"pull {label}", ["pull", f"REGISTRY/{image}:1", "base"], goal, leaves=("base", files))


def _life(label: str, base: str, files: int, goals: dict[str, Goal]) -> tuple[list[Step], list[Difference]]:
    """Return what happens to an image: it comes, is built upon step by step, goes and comes back."""
    more = MORE_RUNS[label]
    names = {
        "plain": f"{label}, import --no-cache",
        "import": f"{label}, import",
        "one": f"{label}, one more RUN",
        "many": f"{label}, {more + 1} more RUNs",
        "one walked": f"{label}, one more RUN, no overlay",
        "many walked": f"{label}, {more + 1} more RUNs, no overlay",
    }
    peak = Goal(peak=goals["first commit"].peak)
    walked = ["--runner=ch-run"]
    # Each build has the RUNs of the one before it, and so many more.
    runs = itertools.accumulate([1, 1, more + 1, 1, 1, more + 1])
    dockerfiles = [inputs.two_file_runs("base", number) for number in runs]
    steps = [
        Step(names["plain"], ["import", "--no-cache", base, "base"], peak, leaves=("base", files)),
        Step(
            names["import"],
            ["import", base, "base"],
            Goal(ratio=0.5, peak=peak.peak, disk=1.75),
            before=_wipe,
            disk=disk.storage_of_image,
        ),
        built(f"{label}, first RUN", dockerfiles[0], 1, peak),
        built(names["one"], dockerfiles[1], 1, peak),
        built(names["many"], dockerfiles[2], more + 1, peak),
        # It also gives the image big files of its own, which the others do not have to.
        built(f"{label}, first RUN, no overlay", dockerfiles[3], 1, peak, options=walked),
        built(names["one walked"], dockerfiles[4], 1, peak, options=walked),
        built(names["many walked"], dockerfiles[5], more + 1, peak, options=walked),
        Step(f"{label}, delete", ["delete", "bench"], goals["delete"], leaves=("bench", 0)),
        Step(f"{label}, undelete", ["undelete", "bench"], goals["undelete"], leaves=("bench", files)),
        Step(f"{label}, delete again", ["delete", "bench"], goals["delete"], leaves=("bench", 0)),
        built(
            f"{label}, checkout by an all-hit build",
            dockerfiles[2],
            0,
            goals["undelete"],
            leaves=files,
        ),
    ]
    differences = [
        Difference(f"{label}, first commit", names["import"], names["plain"], goals["first commit"]),
        Difference(f"{label}, incremental commit", names["many"], names["one"], Goal(ratio=0.1), per=more),
        Difference(
            f"{label}, incremental commit, no overlay",
            names["many walked"],
            names["one walked"],
            Goal(ratio=1 / 3),
            per=more,
            theirs=(names["many"], names["one"]),
        ),
    ]
    return steps, differences


def _import(name: str, goal: Goal) -> Step:
    return Step(f"import {name}", ["import", "../shared/debian.tar", "base"], goal)


def _cheap(label: str, instructions: int, goals: tuple[Goal, Goal, Goal]) -> list[Step]:
    """Return a build of cheap RUNs: everything missing, everything there, the last instruction changed."""
    first = inputs.cheap_runs("base", instructions)
    changed = inputs.cheap_runs("base", instructions, last=" # changed")
    title = f"{label}, {instructions}"
    return [
        built(f"{title} miss", first, instructions - 1, goals[0], tag=f"b{instructions}"),
        built(f"{title} hit", first, 0, goals[1], tag=f"b{instructions}"),
        built(f"{title} last changed", changed, 1, goals[2], tag=f"b{instructions}"),
    ]


def _many_images(work: str) -> None:
    """Make 1,000 images of one by copying directories: a thousand imports would take longer than all else."""
    images = os.path.join(work, "storage", "img")
    for number in range(999):
        target = os.path.join(images, f"image{number:03}+1")
        shutil.copytree(os.path.join(images, "tiny+1"), target, symlinks=True)


def _wipe(work: str) -> None:
    """Begin with an empty storage directory again."""
    disk.remove(os.path.join(work, "storage"))
