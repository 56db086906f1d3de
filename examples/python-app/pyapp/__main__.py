"""Print a histogram of the words of standard input."""

import collections
import importlib.resources
import json
import sys

with importlib.resources.files("pyapp").joinpath("settings.json").open() as file:
    width = json.load(file)["width"]
words = collections.Counter(sys.stdin.read().split())
for word, times in words.most_common(3):
    sys.stdout.write(f"{word:{width}} {'#' * times}\n")
