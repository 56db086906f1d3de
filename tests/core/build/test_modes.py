"""`--chmod`: compared with chmod(1) itself."""

import itertools
import os
import stat
import subprocess
from pathlib import Path

import pytest

from chimage_core.build.modes import parse_mode

MODES = ["0", "7", "644", "0755", "4755", "1777", "u+rwX,go=", "u=rwx,g=rx,o=", "a-w", "ug+s", "+t,a-x", "g=u", "o=g-w"]
MODES += ["u=,g=rX", "a+X", "go-rwx", "u+s,g-s", "=r", "u+r-w+x", "o+t", "u=g", "a=rwx,u-x+s"]


def test_as_chmod_does(tmp_path: Path) -> None:
    for number, (text, before) in enumerate(itertools.product(MODES, (0o000, 0o640, 0o755, 0o4711, 0o444))):
        for make in (os.mkdir, lambda path: Path(path).touch()):
            path = tmp_path / f"{number}{make is os.mkdir}"
            make(path)
            path.chmod(before)
            mode = path.lstat().st_mode
            mask = os.umask(0)
            try:
                # Numbers of fewer than five digits keep setgid of directories: that is GNU's own.
                given = text.rjust(5, "0") if text.isdecimal() else text
                subprocess.run(["chmod", given, path], check=True)
            finally:
                os.umask(mask)
            assert oct(parse_mode(text)(mode)) == oct(stat.S_IMODE(path.lstat().st_mode)), (text, oct(mode))


@pytest.mark.parametrize(
    "text", ["", "8", "77777", "u", "u+", "rwx", "u+q", "a=r,", ",a=r", "755 ", "u+rg", "0o755", "-1"]
)
def test_what_is_no_mode(text: str) -> None:
    if text == "u+":  # chmod(1) takes it, too: nothing is added.
        assert parse_mode(text)(0o100644) == 0o644
        return
    with pytest.raises(ValueError, match="neither octal"):
        parse_mode(text)
