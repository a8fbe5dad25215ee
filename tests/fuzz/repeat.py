"""Repeat cases of the test with damaged files: `python tests/fuzz/repeat.py [FORM [NUMBER [KEEP]]]`.

Without a number, all cases of the form are run; without a form, all cases of all. KEEP is a new folder for the files.
Run it in the root of the repository.
"""

import importlib
import os
import sys
import tempfile
import traceback
from pathlib import Path

sys.path[:0] = [os.getcwd(), str(Path(__file__).resolve().parent)]
os.environ.setdefault("JAX_PLATFORMS", "cpu")


def main(words: list[str]) -> int:
    """Run and print."""
    forms, hostile = importlib.import_module("forms"), importlib.import_module("hostile")
    failed = 0
    for form in forms.forms():
        if words and words[0] != form.name:
            continue
        for number in [int(words[1])] if len(words) > 1 else range(forms.CASES[form.name]):
            with tempfile.TemporaryDirectory() as temporary:
                folder = Path(words[2] if len(words) > 2 else temporary)
                failure = hostile.run_case(form, number, folder)
                if failure:
                    failed += 1
                    print(failure)
                if len(words) > 1:
                    try:
                        print("read again:", form.read(folder))
                    except BaseException:
                        traceback.print_exc()
    print(f"{failed} failures", file=sys.stderr)
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
