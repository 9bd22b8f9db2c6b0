"""The code in README.md is code that is built: every line of it stands in examples/encode.cpp or encode.hpp."""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]

block = re.search(r"```cpp\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL).group(1)
built = {line.strip() for file in ("encode.cpp", "encode.hpp")
         for line in (ROOT / "examples" / file).read_text().splitlines()}
for line in (line.strip() for line in block.splitlines() if line.strip()):
    if line not in built:
        sys.exit(f"README.md has a line that neither examples/encode.cpp nor encode.hpp has: {line}")
