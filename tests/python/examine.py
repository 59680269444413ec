"""What the quickstart should find out about the files below a folder, computed by other means.

    python examine.py FOLDER

Prints a JSON object: path → {"bytes", "lines", "words", "digest"}.
"""

import collections
import hashlib
import json
import os
import sys


def examine(path):
    with open(path, "rb") as file:
        content = file.read()
    text = content.decode("utf-8", errors="replace")
    letters = "".join(letter if letter.isalpha() else " " for letter in text)
    words = collections.Counter(word.lower() for word in letters.split() if len(word) >= 4)
    ranked = sorted(words.items(), key=lambda entry: (-entry[1], entry[0]))
    return {
        "bytes": len(content),
        "lines": content.count(b"\n"),
        "words": [list(entry) for entry in ranked[:3]],
        "digest": hashlib.sha256(content).hexdigest(),
    }


def below(folder):
    for place, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name != "target" and not name.startswith(".")]
        for name in files:
            path = os.path.join(place, name)
            if not os.path.islink(path):
                yield path


print(json.dumps({path: examine(path) for path in below(sys.argv[1])}))
