"""Where a post holds what an explanation puts in quotation marks."""

import re

_QUOTED = re.compile(r"[“\"]([^“”\"\n]{3,})[”\"]|(?<!\w)[‘']([^\n‘’']*(?:[’'](?=\w)[^\n‘’']*)*)[’'](?!\w)")
_ELLIPSIS = re.compile(r"\.{2,}|…|\[\.*…?\]")
_WORD = re.compile(r"\w+(?:['’]\w+)*")
_SHORTEST = 3


def quoted_stretches(post: str, explanation: str) -> list[tuple[int, int]]:
    """The stretches [start, stop) of a post that an explanation quotes; case, white space and punctuation are free.

    A quotation with an ellipsis is looked for part by part. One that does not occur in the post is passed over.
    """
    found: set[tuple[int, int]] = set()
    for double, single in _QUOTED.findall(explanation):
        for part in _ELLIPSIS.split(double or single):
            words = [re.escape(word).replace("'", "['’]").replace("’", "['’]") for word in _WORD.findall(part)]
            if sum(map(len, _WORD.findall(part))) < _SHORTEST:
                continue
            pattern = r"(?<!\w)" + r"\W+".join(words) + r"(?!\w)"
            found |= {match.span() for match in re.finditer(pattern, post, re.IGNORECASE)}
    return sorted(found)
