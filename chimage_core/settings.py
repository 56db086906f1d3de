"""Settings: what options, environment variables and defaults amount to. A flag beats a variable beats a default.

The only module that reads the environment of the process. Below the verbs nobody takes `Settings`: functions take the
values they need. Variables: `$CH_IMAGE_*`, `$CH_LOG_FILE`, `$CH_LOG_FESTOON`, `$CH_XATTRS`, `$NO_COLOR` and `$USER`, as
the manual has them, `$CH_GROW_STORAGE` of its forerunner, and `$SOURCE_DATE_EPOCH`.
"""

import os
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

from chimage_core.errors import UsageError

CacheChoice = Literal["enabled", "disabled", "rebuild"]

PROXY_VARIABLES = (
    "HTTP_PROXY",
    "http_proxy",
    "HTTPS_PROXY",
    "https_proxy",
    "FTP_PROXY",
    "ftp_proxy",
    "NO_PROXY",
    "no_proxy",
)
PASSED_VARIABLES = (*PROXY_VARIABLES, "SSH_AUTH_SOCK", "USER")
"""Variables that every build may use without ARG, and that never cause a cache miss."""

CA_VARIABLES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_DIR")

_DEFAULT_PARENT = "/var/tmp"
_CACHE_CHOICES: tuple[CacheChoice, ...] = ("enabled", "disabled", "rebuild")
_CACHE_BY = ("metadata", "content")
_PULLS = ("missing", "newer", "never")
_MIB = 1024 * 1024
_KEEP_DELETED = 30


class Settings(NamedTuple):
    """What holds for a whole command. Made by `resolve`."""

    storage: str
    """The storage directory: an absolute path."""
    old_storage: str | None
    """Where the default storage directory was in earlier versions; None unless the default is used."""
    cache: CacheChoice | None
    """None: neither option nor variable; enabled, if all that the cache needs is there."""
    cache_by: str
    """What source files are known by: `metadata` or `content`."""
    cache_large: int
    """Bytes from which on files are kept outside Git; 0: the user wants no such limit."""
    cache_shared: tuple[str, ...]
    """Other storage directories whose build caches are read, too: absolute paths."""
    cache_shared_required: bool
    """They were named by option: one that cannot be used is an error. Else it is a warning."""
    keep_deleted: float
    """Days for which the garbage collection keeps deleted images that can be undeleted."""
    epoch: int | None
    """`$SOURCE_DATE_EPOCH`: the time, s since the epoch, that what we make for others may at most have."""
    processors: int | None
    """How many Slurm gives us on this node; None: nobody said."""
    arch: str
    """`host`, `yolo` or an architecture."""
    auth: bool
    """Authenticate with registries at once."""
    username: str | None
    password: str | None
    """Never to be shown or written."""
    password_many: bool
    """Ask for the password each time."""
    login_files: tuple[str, ...]
    """Where other programs keep credentials; they need not exist."""
    auth_realms: tuple[str, ...]
    """Hosts of token servers that may have passwords of any registry."""
    mirrors: str
    """What stands in for registries: see `chimage_core.registry.endpoints`."""
    plain_http: bool
    """Ask registries without TLS."""
    pulls: str
    """Which images a build pulls: `missing`, `newer` or `never`."""
    tls_verify: bool
    cacert: str | None
    """File or directory of certificates to trust instead of the usual ones, as an option."""
    always_download: bool
    xattrs: bool
    lock: bool
    lock_timeout: float | None
    """Seconds; None: no limit."""
    verbosity: int
    """Options -v less options -q; without either, 1 if there is a log file."""
    debug: bool
    """Add a stack trace to errors."""
    log_file: str | None
    """Messages are appended to this file instead of standard error."""
    log_festoon: bool
    """Begin each message with process number and time."""
    color: bool
    environment: Mapping[str, str]
    """All variables, as they were at the start: for `--build-arg KEY` and for programs that we start."""

    @classmethod
    def resolve(cls, options: Mapping[str, Any], environ: Mapping[str, str]) -> "Settings":
        """Put together options by name (those not given are missing), variables and defaults.

        Raises UsageError for values that make no sense.
        """
        storage, old_storage = _storage(options.get("storage"), environ)
        log_file = environ.get("CH_LOG_FILE")
        verbosity = options.get("verbose", 0) - options.get("quiet", 0)
        return cls(
            storage=storage,
            old_storage=old_storage,
            cache=options.get("cache") or _cache_choice(environ),
            cache_by=_cache_by(options.get("cache_by"), environ),
            cache_large=_cache_large(options.get("cache_large"), environ),
            cache_shared=_cache_shared(options.get("cache_shared"), environ),
            cache_shared_required="cache_shared" in options,
            keep_deleted=_keep_deleted(options.get("keep_deleted"), environ),
            epoch=_epoch(environ),
            processors=_processors(environ),
            arch=options.get("arch", "host"),
            auth=bool(options.get("auth") or environ.get("CH_IMAGE_AUTH") == "yes"),
            username=environ.get("CH_IMAGE_USERNAME"),
            password=environ.get("CH_IMAGE_PASSWORD"),
            password_many=options.get("password_many", False),
            login_files=_login_files(options.get("login_files", True), environ),
            auth_realms=tuple(environ.get("CH_IMAGE_AUTH_REALMS", "").lower().replace(",", " ").split()),
            mirrors=environ.get("CH_IMAGE_MIRRORS", ""),
            plain_http=options.get("plain_http", False),
            pulls=_pulls(options.get("pulls"), environ),
            tls_verify=not options.get("tls_no_verify", False),
            cacert=_cacert(options.get("cacert")),
            always_download=options.get("always_download", False),
            # $CH_XATTRS, if set, asks for what is the default anyway.
            xattrs=options.get("xattrs", True),
            lock=not options.get("no_lock", False),
            lock_timeout=options.get("lock_timeout"),
            verbosity=verbosity or (1 if log_file else 0),
            # The manual: -q suppresses --debug, wherever it stands.
            debug=bool(options.get("debug") or environ.get("CH_IMAGE_DEBUG")) and verbosity >= 0,
            log_file=os.path.abspath(log_file) if log_file else None,
            log_festoon="CH_LOG_FESTOON" in environ,
            color=not environ.get("NO_COLOR"),
            environment=environ,
        )

    def __repr__(self) -> str:
        # Password and environment may not get into any message.
        return f"Settings(storage={self.storage!r}, …)"

    @property
    def passed_variables(self) -> Mapping[str, str]:
        """Those of PASSED_VARIABLES that are set."""
        return {name: self.environment[name] for name in PASSED_VARIABLES if name in self.environment}

    @property
    def ca_bundle(self) -> str | None:
        """File or directory of certificates to trust instead of the usual ones; the variables of OpenSSL and others."""
        return self.cacert or next(filter(None, map(self.environment.get, CA_VARIABLES)), None)

    @property
    def proxies(self) -> Mapping[str, str]:
        """Those of PROXY_VARIABLES that are set."""
        return {name: self.environment[name] for name in PROXY_VARIABLES if name in self.environment}


def process_environment() -> dict[str, str]:
    """Return a copy of the environment of this process; bytes that are no UTF-8 are surrogate escapes."""
    return dict(os.environ)


def _pulls(option: str | None, environ: Mapping[str, str]) -> str:
    value = option or environ.get("CH_IMAGE_PULL", _PULLS[0])
    if value not in _PULLS:
        raise UsageError(f"$CH_IMAGE_PULL: invalid value: {value!r}", hint=f"use one of: {', '.join(_PULLS)}")
    return value


def _cacert(option: str | None) -> str | None:
    if option is not None and not os.path.exists(option):
        raise UsageError(f"--cacert: not found: {option}")
    return None if option is None else os.path.abspath(option)


def _login_files(option: bool, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return where login files may be, in the order in which podman and docker look for them."""
    if not option or environ.get("CH_IMAGE_LOGIN_FILES") == "no":
        return ()
    if named := environ.get("REGISTRY_AUTH_FILE"):
        return (named,)
    home = environ.get("HOME")
    run, config, docker = (environ.get(name) for name in ("XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "DOCKER_CONFIG"))
    config = config or (os.path.join(home, ".config") if home else None)
    docker = docker or (os.path.join(home, ".docker") if home else None)
    places = ((run, "containers/auth.json"), (config, "containers/auth.json"), (docker, "config.json"))
    return tuple(os.path.join(directory, name) for directory, name in places if directory)


def _storage(option: str | None, environ: Mapping[str, str]) -> tuple[str, str | None]:
    """Return the storage directory, and its old place if it is the default one."""
    if option is not None:
        if not option:
            raise UsageError("--storage: the path is empty")
        return os.path.abspath(option), None
    for variable in ("CH_IMAGE_STORAGE", "CH_GROW_STORAGE"):
        path = environ.get(variable)
        if path is not None:
            if not os.path.isabs(path):
                raise UsageError(f"${variable}: not an absolute path: {path!r}", hint="write it with a leading slash")
            return os.path.abspath(path), None
    user = _user(environ)
    return os.path.join(_DEFAULT_PARENT, f"{user}.ch"), os.path.join(_DEFAULT_PARENT, user, "ch-image")


def _user(environ: Mapping[str, str]) -> str:
    """Return the name that the default storage directory is called after."""
    user = environ.get("USER")
    hint = "set $USER, or choose a storage directory with --storage"
    if not user:
        # Cron jobs and containers often have no $USER.
        import pwd

        try:
            user = pwd.getpwuid(os.geteuid()).pw_name
        except KeyError:
            raise UsageError(
                f"no storage directory: $USER is not set, and user {os.geteuid()} has no name", hint=hint
            ) from None
    if "/" in user or "\0" in user or user in (".", ".."):
        raise UsageError(f"no storage directory: not a user name: {user!r}", hint=hint)
    return user


def _cache_choice(environ: Mapping[str, str]) -> CacheChoice | None:
    value = environ.get("CH_IMAGE_CACHE")
    if value is None:
        return None
    for choice in _CACHE_CHOICES:
        if value == choice:
            return choice
    raise UsageError(f"$CH_IMAGE_CACHE: invalid value: {value!r}", hint=f"use one of: {', '.join(_CACHE_CHOICES)}")


def _cache_by(option: str | None, environ: Mapping[str, str]) -> str:
    value = option or environ.get("CH_IMAGE_CACHE_BY", _CACHE_BY[0])
    if value not in _CACHE_BY:
        raise UsageError(f"$CH_IMAGE_CACHE_BY: invalid value: {value!r}", hint=f"use one of: {', '.join(_CACHE_BY)}")
    return value


def _cache_large(option: int | None, environ: Mapping[str, str]) -> int:
    """Return the threshold in bytes; option and variable are in MiB."""
    if option is not None:
        return option * _MIB
    value = environ.get("CH_IMAGE_CACHE_LARGE", "0")
    if not (value.isascii() and value.isdecimal()):
        raise UsageError(f"$CH_IMAGE_CACHE_LARGE: not a number of MiB, 0 or more: {value!r}")
    return int(value) * _MIB


def _cache_shared(option: str | None, environ: Mapping[str, str]) -> tuple[str, ...]:
    """Return the directories of a list as in $PATH; an empty one means: none, whatever the variable says."""
    if option is not None:
        return tuple(os.path.abspath(path) for path in option.split(os.pathsep) if path)
    paths = tuple(path for path in environ.get("CH_IMAGE_CACHE_SHARED", "").split(os.pathsep) if path)
    for path in paths:
        if not os.path.isabs(path):
            raise UsageError(
                f"$CH_IMAGE_CACHE_SHARED: not an absolute path: {path!r}", hint="write it with a leading slash"
            )
    return tuple(map(os.path.abspath, paths))


def _keep_deleted(option: float | None, environ: Mapping[str, str]) -> float:
    if option is not None:
        return option
    value = environ.get("CH_IMAGE_KEEP_DELETED")
    if value is None:
        return _KEEP_DELETED
    if not (value.isascii() and value.isdecimal()):
        raise UsageError(f"$CH_IMAGE_KEEP_DELETED: not a number of days, 0 or more: {value!r}")
    return int(value)


def _epoch(environ: Mapping[str, str]) -> int | None:
    """Read the variable as https://reproducible-builds.org/specs/source-date-epoch/ has it."""
    value = environ.get("SOURCE_DATE_EPOCH")
    if not value:
        return None
    if not (value.isascii() and value.isdecimal() and len(value) < 12):
        raise UsageError(f"$SOURCE_DATE_EPOCH: not a number of seconds since 1970: {value!r}")
    return int(value)


def _processors(environ: Mapping[str, str]) -> int | None:
    """Return what Slurm says: for this task, or else for the job on this node."""
    for variable in ("SLURM_CPUS_PER_TASK", "SLURM_CPUS_ON_NODE"):
        value = environ.get(variable, "")
        if value.isascii() and value.isdecimal() and int(value) > 0:
            return int(value)
    return None
