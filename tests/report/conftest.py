from __future__ import annotations

import sys
from pathlib import Path

import pytest

from at2_prune.pruning.results import PruneResult

sys.path.insert(0, str(Path(__file__).parent))

from made_reports import HOSTILE, made_result


@pytest.fixture
def hostile() -> PruneResult:
    return made_result(
        HOSTILE,
        [0.5, -0.3, 0.2, 0.1, 0.0, 1e-9, -0.6],
        [0, 2, 3],
        question="Is <b>this</b> \x00 a question?",
        draft="<i>one</i> two",
        answer="<i>one</i> three\x1b[2J",
        fallback="the model wrote <img src=x onerror=alert(5)>; the first 3 sources were kept",
    )
