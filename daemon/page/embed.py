"""Files as C strings: embed.py OUTPUT FILE..."""

import pathlib
import sys


def literal(data):
    lines = data.decode().splitlines(keepends=True)
    escaped = (line.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t") for line in lines)
    return "\n".join(f'\t"{"".join(c if ord(c) < 128 else octal(c) for c in line)}"' for line in escaped)


def octal(char):
    return "".join(f"\\{byte:03o}" for byte in char.encode())


output, *files = map(pathlib.Path, sys.argv[1:])
with output.open("w") as out:
    for file in files:
        out.write(f"static const char {file.name.replace('.', '_')}[] =\n{literal(file.read_bytes())};\n\n")
