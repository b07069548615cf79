"""Run the blocks of one page in order: Python in this process and one namespace, shell in bash.

    python run_page.py BLOCKS.json

A block that fails ends it with exit code 1; the last line of standard error names the block's place on its page.
"""

import json
import subprocess
import sys


def main(path):
    names = {"__name__": "__main__"}
    with open(path) as file:
        blocks = json.load(file)
    for block in blocks:
        place = f"{block['page']}:{block['line']}"
        print(f"== {place}", flush=True)
        try:
            if block["language"] == "python":
                exec(compile(block["code"], place, "exec"), names)
            else:
                subprocess.run(["bash", "-e", "-o", "pipefail", "-c", block["code"]], check=True)
        except BaseException:
            print(f"failed: {place}", file=sys.stderr)
            raise


if __name__ == "__main__":
    main(sys.argv[1])
