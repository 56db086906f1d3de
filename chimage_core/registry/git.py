"""Git repositories of others, for ADD: which commit a name means, and its files. By git(1), held on a short leash.

What a repository says is data from strangers. So git runs with an environment and a configuration of our own: no hooks,
no filters, no helpers, no questions; no transport but http, https, ssh and git, also for submodules; credentials come
from a private file and never from the command line, which everybody on the machine can read. Sources: git(1),
git-config(1), gitcredentials(7); Dockerfile reference, "Adding private Git repositories", "ADD --keep-git-dir".
"""

import contextlib
import os
import re
import stat
from collections.abc import Iterator, Mapping
from typing import NamedTuple
from urllib.parse import urlsplit

from chimage_core import proc
from chimage_core.cancel import CancelToken
from chimage_core.errors import DependencyMissing, RegistryRefused, file_errors
from chimage_core.fs.atomic import temporary_directory, write_file
from chimage_core.fs.remove import remove_tree
from chimage_core.fs.tree import walk
from chimage_core.registry.transport import Network
from chimage_core.text import without_credentials

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_CONFIGURATION = """\
[core]
    hooksPath = /dev/null
    fsmonitor = false
    logAllRefUpdates = false
    autocrlf = false
    symlinks = true
[advice]
    detachedHead = false
[init]
    defaultBranch = main
[gc]
    auto = 0
[maintenance]
    auto = false
[submodule]
    fetchJobs = 1
[http]
    lowSpeedLimit = 1
    lowSpeedTime = 60
[transfer]
    bundleURI = false
"""


class Host(NamedTuple):
    """What of this machine git gets to see."""

    path: str
    """`$PATH`."""
    ssh_agent: str | None
    """`$SSH_AUTH_SOCK`."""


class Repositories:
    """Asks and fetches."""

    def __init__(self, directory: str, network: Network, host: Host, cancel: CancelToken) -> None:
        """Work in temporary directories in `directory`, which exists."""
        self._directory = directory
        self._network = network
        self._host = host
        self._cancel = cancel

    def commit(self, url: str, ref: str | None) -> str:
        """Return the commit that a branch, tag, other ref or full commit ID means; None: what `HEAD` is there.

        A branch wins over a tag, as in git checkout. Raises DependencyMissing, RegistryRefused, FileError, Cancelled.
        """
        if ref is not None and _COMMIT.fullmatch(ref):
            return ref
        with self._git(url) as git:
            return git.commit(ref or "HEAD")

    @contextlib.contextmanager
    def checkout(self, url: str, ref: str | None, commit: str) -> Iterator[str]:
        """Give a directory with the files of `commit`, which `ref` meant, and of its submodules; with `.git`.

        Modes are 0755 and 0644, times those of the commit, so that the result depends on the commit alone. Raises as
        `commit` does.
        """
        with self._git(url) as git:
            git.fetch(ref, commit)
            git.check_out(commit)
            with file_errors("prepare files of repository", git.tree):
                _normalise(git.tree, git.time(commit), self._cancel)
            yield git.tree

    @contextlib.contextmanager
    def _git(self, url: str) -> "Iterator[_Git]":
        program = proc.find_program("git", self._host.path)
        if program is None:
            raise DependencyMissing(
                f"git(1) is needed to add a Git repository: {without_credentials(url)}", hint="install git"
            )
        with (
            file_errors("make temporary directory", self._directory),
            temporary_directory(self._directory, "git-") as directory,
        ):
            yield _Git(program, url, directory, self._environment(url, directory), self._cancel)

    def _environment(self, url: str, directory: str) -> dict[str, str]:
        """Return git's environment, and write its configuration to `directory`."""
        network, host = self._network, self._host
        configuration = _CONFIGURATION
        credentials = _credentials(url)
        if credentials is not None:
            write_file(f"{directory}/.git-credentials", f"{credentials}\n".encode(), mode=0o600, sync=False)
            configuration += "[credential]\n    helper = store\n"
        write_file(f"{directory}/.gitconfig", configuration.encode(), mode=0o600, sync=False)
        optional = {
            "SSH_AUTH_SOCK": host.ssh_agent,
            "GIT_SSL_CAPATH" if os.path.isdir(network.ca_bundle or "") else "GIT_SSL_CAINFO": network.ca_bundle,
            "GIT_SSL_NO_VERIFY": None if network.verify else "1",
        }
        return {
            **network.proxies,
            **{name: value for name, value in optional.items() if value},
            "PATH": host.path,
            "HOME": directory,
            "XDG_CONFIG_HOME": directory,
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_ALLOW_PROTOCOL": "http:https:ssh:git",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "/bin/false",
            "SSH_ASKPASS": "/bin/false",
            "GIT_SSH_COMMAND": "ssh -o BatchMode=yes -o ConnectTimeout=20 -o ServerAliveInterval=20",
            "GIT_LFS_SKIP_SMUDGE": "1",
        }


class _Git:
    """One repository being asked or fetched."""

    def __init__(
        self, program: str, url: str, directory: str, environment: Mapping[str, str], cancel: CancelToken
    ) -> None:
        self.tree = f"{directory}/tree"
        self._program = program
        self._url = without_credentials(url)
        self._environment = environment
        self._directory = directory
        self._cancel = cancel

    def commit(self, ref: str) -> str:
        names = _candidates(ref)
        lines = self._run("ls-remote", "--", self._url, *names).splitlines()
        found = {name: commit for commit, _, name in (line.partition("\t") for line in lines)}
        for name in names:
            if name in found and _COMMIT.fullmatch(found[name]):
                return found[name]
        hint = "give a branch, a tag, or all 40 digits of a commit"
        raise RegistryRefused(f"repository has no {ref}: {self._url}", hint=hint)

    def fetch(self, ref: str | None, commit: str) -> None:
        """Fetch a commit, as little as the server lets us: it alone; what its name leads to; everything."""
        self._run("init", "--quiet", "--template=", self.tree, cwd=self._directory)
        self._run("config", "remote.origin.url", self._url)
        name = "HEAD" if ref is None or _COMMIT.fullmatch(ref) else ref
        attempts: list[tuple[str, ...]] = [
            ("--depth=1", "--no-tags", "--", self._url, commit),
            ("--depth=1", "--no-tags", "--", self._url, name),
            ("--", self._url, "+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*", name),
        ]
        problem = ""
        for arguments in attempts:
            output = self._try("fetch", "--quiet", "--no-recurse-submodules", *arguments)
            problem = output.stderr.decode("utf-8", "surrogateescape")
            if output.status == 0 and self._try("cat-file", "-e", f"{commit}^{{commit}}").status == 0:
                return
        problem = problem or "it has moved meanwhile, or there is no such commit"
        raise self._failed(f"can't fetch {name if name != 'HEAD' else 'commit'} {commit}", problem)

    def check_out(self, commit: str) -> None:
        self._run("checkout", "--quiet", "--force", "--detach", commit)
        if os.path.lexists(f"{self.tree}/.gitmodules"):
            self._run("submodule", "--quiet", "update", "--init", "--recursive", "--depth=1")
        for name in ("FETCH_HEAD", "ORIG_HEAD", "logs"):  # URLs and times, of no use to anybody.
            remove_tree(f"{self.tree}/.git/{name}")

    def time(self, commit: str) -> int:
        """Return when it was committed, ns."""
        text = self._run("show", "--no-patch", "--format=%ct", f"{commit}^{{commit}}").strip()
        return int(text) * 1_000_000_000 if text.isdecimal() else 0

    def _run(self, *argv: str, cwd: str | None = None) -> str:
        output = self._try(*argv, cwd=cwd)
        if output.status != 0:
            raise self._failed(f"git {argv[0]} failed", output.stderr.decode("utf-8", "surrogateescape"))
        return output.stdout.decode("utf-8", "surrogateescape")

    def _try(self, *argv: str, cwd: str | None = None) -> proc.ProgramOutput:
        if cwd is None:
            cwd = self.tree if os.path.isdir(self.tree) else self._directory
        return proc.run(
            [self._program, *argv], environment=self._environment, cancel=self._cancel, cwd=cwd, check=False
        )

    def _failed(self, what: str, said: str) -> RegistryRefused:
        lines = [without_credentials(line) for line in said.strip().splitlines()[-6:]]
        hint = None
        if "could not read Username" in said or "Authentication failed" in said:
            hint = "it is not there, or wants credentials: https://USER:PASSWORD@…, best from a build argument"
        elif "not allowed" in said and "transport" in said:
            hint = "only http, https, ssh and git are used, also for submodules"
        elif "Host key verification failed" in said or "Permission denied (publickey" in said:
            hint = "ssh may not ask here; connect once by hand, and load your key into an agent ($SSH_AUTH_SOCK)"
        return RegistryRefused("\n  ".join([f"{what}: {self._url}", *lines]), hint=hint)


def _candidates(ref: str) -> list[str]:
    """Return the full names that a ref may mean, the best first. With `^{}`, the commit that a tag names."""
    if ref == "HEAD":
        return [ref]
    if ref.startswith("refs/"):
        return [f"{ref}^{{}}", ref]
    return [f"refs/heads/{ref}", f"refs/tags/{ref}^{{}}", f"refs/tags/{ref}", f"refs/{ref}"]


def _credentials(url: str) -> str | None:
    """Return the line for git-credential-store that a URL with user and password gives."""
    parts = urlsplit(url)
    userinfo, at, location = parts.netloc.rpartition("@")
    if parts.scheme.lower() not in ("http", "https") or not at:
        return None
    user, _, password = userinfo.partition(":")
    return f"{parts.scheme.lower()}://{user}:{password}@{location}"


def _normalise(top: str, time: int, cancel: CancelToken) -> None:
    """Give files and directories the modes that Git knows, whatever the umask, and a time."""
    directories = []
    for entry in walk(top, cancel=cancel):
        mode = entry.status.st_mode
        if stat.S_ISDIR(mode):
            os.chmod(entry.name, 0o755, dir_fd=entry.directory)
            directories.append(entry.path)
            continue
        if stat.S_ISREG(mode):
            os.chmod(entry.name, 0o755 if mode & 0o100 else 0o644, dir_fd=entry.directory)
        os.utime(entry.name, ns=(time, time), dir_fd=entry.directory, follow_symlinks=False)
    for path in reversed(directories):
        os.utime(os.path.join(top, path), ns=(time, time))
