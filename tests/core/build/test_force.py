"""Root emulation: which commands are changed, and how."""

import pytest

from chimage_core.build.force.defaults import DEFAULT_HOOKS, CommandHook
from chimage_core.build.force.none import NoForcer
from chimage_core.build.force.seccomp import SeccompForcer
from chimage_core.errors import UsageError

OPTION = "-o APT::Sandbox::User=root"


def _shell(text: str, hooks: tuple[CommandHook, ...] = DEFAULT_HOOKS) -> str:
    return SeccompForcer(hooks).wrap(("/bin/sh", "-c", text))[-1]


@pytest.mark.parametrize(
    ("text", "forced"),
    [
        ("apt-get update", f"apt-get {OPTION} update"),
        ("apt update && apt install -y x", f"apt {OPTION} update && apt {OPTION} install -y x"),
        # The manual's own example of an unwanted change, and its workaround.
        ("apt-get install -y apt-get", f"apt-get {OPTION} install -y apt-get {OPTION}"),
        ("apt-get install -y a\\pt-get", f"apt-get {OPTION} install -y a\\pt-get"),
        ("/usr/bin/apt-get update", f"/usr/bin/apt-get {OPTION} update"),
        ("(apt-get update)", f"(apt-get {OPTION} update)"),
        ("rm -rf /var/lib/apt/lists/*", "rm -rf /var/lib/apt/lists/*"),
        ("apt-getx; xapt-get; apt-cache; apt.conf", "apt-getx; xapt-get; apt-cache; apt.conf"),
        ("apt-get\nupdate", f"apt-get {OPTION}\nupdate"),
        ("echo hello", "echo hello"),
    ],
)
def test_hooks_insert_arguments_behind_the_command(text: str, forced: str) -> None:
    assert _shell(text) == forced


def test_exec_form_gets_separate_words() -> None:
    forced = SeccompForcer(DEFAULT_HOOKS).wrap(("apt-get", "install", "apt"))
    assert forced == ("apt-get", "-o", "APT::Sandbox::User=root", "install", "apt")


def test_command_without_arguments_is_changed_too() -> None:
    assert _shell("foo", (CommandHook("foo", ("-a",)),)) == "foo -a"


def test_untouched_commands_stay_equal() -> None:
    """This is how it is known whether a command was modified."""
    argv = ("/bin/sh", "-c", "echo")
    assert SeccompForcer(DEFAULT_HOOKS).wrap(argv) == argv


def test_hook_option_is_read_as_the_manual_says() -> None:
    assert CommandHook.parse("foo,-a,--bar=baz") == CommandHook("foo", ("-a", "--bar=baz"))
    assert CommandHook.parse(r"foo,a\,b,c\\d") == CommandHook("foo", ("a,b", r"c\d"))


def test_manuals_example_of_force_cmd() -> None:
    assert _shell("foo -c", (CommandHook.parse("foo,-a,--bar=baz"),)) == "foo -a --bar=baz -c"


@pytest.mark.parametrize("text", ["foo", "", ",x"])
def test_bad_hook_is_a_usage_error(text: str) -> None:
    with pytest.raises(UsageError, match="--force-cmd"):
        CommandHook.parse(text)


def test_none_changes_nothing() -> None:
    assert NoForcer().wrap(("/bin/sh", "-c", "apt-get update"))[-1] == "apt-get update"
