"""The values of RUN --mount, key by key."""

import pytest

from chimage_core.build import mounts
from chimage_core.build.mounts import BindMount, CacheMount, MountValue, SecretMount, SshMount, TmpfsMount


def read(text: str) -> MountValue:
    return mounts.read(mounts.fields(text)).mount


@pytest.mark.parametrize(
    ("text", "mount"),
    [
        ("target=/x", BindMount("/x", ".", None, True)),
        ("type=bind,source=a,target=/x", BindMount("/x", "a", None, True)),
        ("TYPE=bind,Src=a,DST=/x", BindMount("/x", "a", None, True)),
        ("destination=x,from=0", BindMount("x", ".", "0", True)),
        ("target=/x,rw", BindMount("/x", ".", None, False)),
        ("target=/x,readwrite=true", BindMount("/x", ".", None, False)),
        ("target=/x,rw=false", BindMount("/x", ".", None, True)),
        ("target=/x,ro=0", BindMount("/x", ".", None, False)),
        ("target=/x,readonly", BindMount("/x", ".", None, True)),
        ("target=/x,rw,ro", BindMount("/x", ".", None, True)),
        ("target=/a,target=/b", BindMount("/b", ".", None, True)),
        ('"source=a,b",target=/x', BindMount("/x", "a,b", None, True)),
        ('target=/x,"source=a ""quoted"" name"', BindMount("/x", 'a "quoted" name', None, True)),
        ("target=/x,source=a=b", BindMount("/x", "a=b", None, True)),
        ("type=cache,target=/c", CacheMount("/c", None, "shared", None, ".", None, False)),
        ("type=cache,target=/c,id=i,sharing=locked", CacheMount("/c", "i", "locked", None, ".", None, False)),
        ("type=cache,target=/c,mode=0700,ro", CacheMount("/c", None, "shared", 0o700, ".", None, True)),
        (
            "type=cache,target=/c,from=a,source=/b,sharing=private",
            CacheMount("/c", None, "private", None, "/b", "a", False),
        ),
        ("type=tmpfs,target=/t", TmpfsMount("/t", None, False)),
        ("type=tmpfs,target=/t,size=100", TmpfsMount("/t", 100, False)),
        ("type=tmpfs,target=/t,size=1.5k", TmpfsMount("/t", 1536, False)),
        ("type=tmpfs,target=/t,size=2GiB", TmpfsMount("/t", 2 << 30, False)),
        ("type=tmpfs,target=/t,size=3Mb", TmpfsMount("/t", 3 << 20, False)),
        ("type=secret,id=a", SecretMount("a", "/run/secrets/a", None, 0o400, False)),
        ("type=secret,id=a/b", SecretMount("a/b", "/run/secrets/b", None, 0o400, False)),
        ("type=secret,source=a,required", SecretMount("a", "/run/secrets/a", None, 0o400, True)),
        ("type=secret,target=/root/.netrc", SecretMount(".netrc", "/root/.netrc", None, 0o400, False)),
        ("type=secret,id=a,mode=444", SecretMount("a", "/run/secrets/a", None, 0o444, False)),
        ("type=secret,id=a,env=A", SecretMount("a", None, "A", 0o400, False)),
        ("type=secret,id=a,env=A,target=/a,required=false", SecretMount("a", "/a", "A", 0o400, False)),
        ("type=ssh", SshMount("default", None, False)),
        ("type=ssh,id=x,target=/agent,required=true", SshMount("x", "/agent", True)),
    ],
)
def test_values(text: str, mount: MountValue) -> None:
    assert read(text) == mount


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "no target"),
        ("type=bind", "no target"),
        ("type=volume,target=/x", "no such type: volume"),
        ("type=,target=/x", "no such type: empty"),
        ("target=", "target is empty"),
        ("target=/", "root of the image: /"),
        ("target=/a/..", "root of the image"),
        ("target=//.", "root of the image"),
        ("target", "target needs a value"),
        ("=x,target=/x", "no such key: empty"),
        ("tarjet=/x", "no such key: tarjet; did you mean target"),
        ("target=/x,bogus=1", "no such key: bogus"),
        ("target=/x,ro=maybe", "ro: expected true or false, not 'maybe'"),
        ("target=/x,sharing=shared", "sharing does not go with type=bind, only with cache"),
        ("target=/x,size=1", "size does not go with type=bind, only with tmpfs"),
        ("target=/x,mode=0755", "mode does not go with type=bind"),
        ("target=/x,uid=1", "uid does not go with type=bind"),
        ("target=/x,required", "required does not go with type=bind"),
        ("type=tmpfs,target=/x,mode=0755", "mode does not go with type=tmpfs"),
        ("type=tmpfs,target=/x,gid=5", "gid does not go with type=tmpfs"),
        ("type=tmpfs,target=/x,size=big", "size: expected such as 64m or 2g, not 'big'"),
        ("type=tmpfs,target=/x,size=0", "size: not a size"),
        ("type=tmpfs,target=/x,size=99999999999p", "size: not a size"),
        ("type=cache,target=/x,sharing=none", "no such sharing: none"),
        ("type=cache,target=/x,required", "required does not go with type=cache"),
        ("type=cache,target=/x,mode=9", "mode: expected an octal number, not '9'"),
        ("type=cache,target=/x,mode=70000", "mode: more than 7777"),
        ("type=cache,target=/x,uid=me", "uid: expected a number, not 'me'"),
        ("type=cache,target=/x,source=y", "source needs from"),
        ("type=secret", "no id"),
        ("type=secret,id=..", "needs a target"),
        ("type=secret,id=a,source=b", "id and source"),
        ("type=secret,id=a,env=", "env: not the name of a variable"),
        ("type=secret,id=a,env=A=B", "env: not the name of a variable"),
        ("type=ssh,size=1", "size does not go with type=ssh"),
        ('target=/x,"source=a', "unexpected end of data"),
        ('"target=/x"y', "expected after"),
        ("target=/a\0b", "null character"),
    ],
)
def test_what_is_wrong_is_said(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=problem.replace("(", r"\(")):
        read(text)


@pytest.mark.parametrize(
    ("text", "notes"),
    [
        ("target=/x", 0),
        ("target=/x,id=a,env=A", 2),
        ("type=tmpfs,target=/x,from=a,source=b", 2),
        ("type=cache,target=/x,uid=1,gid=2", 1),
        ("type=secret,id=a,ro", 1),
        ("type=ssh,mode=600,uid=0", 2),
    ],
)
def test_what_means_nothing_is_ignored_with_a_note(text: str, notes: int) -> None:
    assert len(mounts.read(mounts.fields(text)).notes) == notes


@pytest.mark.parametrize(
    ("target", "workdir", "place"),
    [
        ("/a/b/", "/w", "/a/b"),
        ("a", "/w", "/w/a"),
        (".", "/w", "/w"),
        ("../x", "/w", "/x"),
        ("../../../x", "/w", "/x"),
        ("/a/../../b", "/", "/b"),
        ("//x", "/", "/x"),
    ],
)
def test_places(target: str, workdir: str, place: str) -> None:
    assert mounts.place(target, workdir) == place


@pytest.mark.parametrize(("target", "workdir"), [(".", "/"), ("..", "/w"), ("/..", "/w")])
def test_the_root_is_no_place(target: str, workdir: str) -> None:
    with pytest.raises(ValueError, match="root of the image"):
        mounts.place(target, workdir)
