"""Every destination type passes every case, or says why a case cannot apply."""

from collections.abc import Callable
from pathlib import Path
from typing import get_args

import pytest

from destinations.matrix.cases import FUNCTIONS, Trial
from destinations.matrix.far_ends import far_end
from destinations.matrix.printed import PAGE, PROPERTY, page, table
from destinations.matrix.table import KINDS, MEANING, Case, Kind
from mailvane.configuration.legacy_keys import DESTINATIONS
from mailvane.destinations.contract import Target
from support.certificates import Authority
from support.endpoint import Endpoint
from support.homes import Home

CELLS = [(kind, case) for kind in KINDS for case in Case if case not in kind.reasons]
NO_DESTINATIONS = {"drop_from_queue", "leave_in_queue"}


@pytest.mark.parametrize(("kind", "case"), CELLS, ids=lambda part: part.name if isinstance(part, Kind) else part.value)
def test_matrix(
    kind: Kind,
    case: Case,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    authority: Authority,
    make_home: Callable[..., Home],
    make_endpoint: Callable[..., Endpoint],
    record_property: Callable[[str, object], None],
) -> None:
    with far_end(kind.name, request, tmp_path) as end:
        record_property(PROPERTY, [kind.name, case.value, end.version])  # plain: it goes from process to process
        FUNCTIONS[case](Trial(kind, end, tmp_path, authority.file, make_home, make_endpoint))


def test_no_cell_is_blank() -> None:
    assert {kind.key for kind in KINDS} == DESTINATIONS.keys() - NO_DESTINATIONS | {"logfile"}
    assert {kind.target for kind in KINDS} == set(get_args(Target))
    assert len({kind.name for kind in KINDS}) == len(KINDS)
    assert MEANING.keys() == set(Case)
    for kind in KINDS:
        for case in Case:
            reason = kind.reasons.get(case)
            assert (case in FUNCTIONS) if reason is None else reason.strip(), f"{kind.name}, {case}: blank"
        assert not kind.fails.keys() & kind.reasons.keys()


def test_the_page_has_the_matrix() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "run in tests/: python -m destinations.matrix.printed"


def test_the_printed_matrix_has_every_type_with_its_version_and_every_reason() -> None:
    results = {(kind.name, str(case)): "passed" for kind, case in CELLS}
    lines = "\n".join(table(results, {"sqlite": "SQLite 3.99"}))
    assert "not run" not in lines and "SQLite 3.99" in lines
    for kind in KINDS:
        assert kind.name in lines
        assert all(reason in lines for reason in kind.reasons.values())
    failed = "\n".join(table({**results, ("sqlite", "slow"): "failed"}, {}))
    assert "failed" in failed and "failed" not in lines
    assert "not run" in "\n".join(table({}, {}))
