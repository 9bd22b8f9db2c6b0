"""The code in README.md is code that is built: every line of it stands in examples/encode.cpp."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

block = re.search(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
built = {line.strip() for line in (ROOT / "examples/encode.cpp").read_text().splitlines()}
for line in (line.strip() for line in block.splitlines() if line.strip()):
    if line not in built:
        sys.exit(f"README.md has a line that examples/encode.cpp does not have: {line}")
