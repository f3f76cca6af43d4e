"""The table of the mutation tests: what counts as noticed, and of which module a mutant is."""

from tests.support.mutant_table import tabulate

RESULTS = """
    models.calibration.bayes.xǁ_Rowsǁvariance__mutmut_3: survived
    models.calibration.bayes.x_fit_bayes__mutmut_13: killed
    models.calibration.bayes.x_fit_bayes__mutmut_14: not checked
    pipeline.forecasting.folds.x__cut__mutmut_7: timeout
    pipeline.forecasting.folds.x__cut__mutmut_3: no tests
    pipeline.forecasting.folds.x__cut__mutmut_13: killed
"""


def test_what_was_not_tried_does_not_count() -> None:
    table, _, alive = tabulate(RESULTS.splitlines()).partition("\n\n")
    assert table.splitlines()[2:] == [
        "| models/calibration/bayes.py | 1 | 1 | 50% |",
        "| pipeline/forecasting/folds.py | 2 | 1 | 67% |",
        "| all | 3 | 2 | 60% |",
    ]
    assert alive.splitlines() == [
        "survived: models.calibration.bayes.xǁ_Rowsǁvariance__mutmut_3",
        "no tests: pipeline.forecasting.folds.x__cut__mutmut_3",
    ]


def test_without_a_result_there_is_a_table_all_the_same() -> None:
    assert tabulate([]).splitlines()[2] == "| all | 0 | 0 | none tried |"
