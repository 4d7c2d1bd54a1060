# SPDX-License-Identifier: Apache-2.0
triphase_add_test(trainer_metrics_test SOURCES evaluation_metrics_test.cpp metrics_sweep_test.cpp LIBS triphase::trainer)
triphase_add_test(trainer_finding_test
  SOURCES evaluation_finding_test.cpp evaluation_probe_test.cpp LIBS triphase::trainer)
triphase_add_test(trainer_report_test
  SOURCES report_fields_test.cpp report_parts_test.cpp report_test.cpp report_svg_test.cpp xml_check.cpp
  LIBS triphase::trainer)
triphase_add_test(trainer_report_browser_test SOURCES report_browser_test.cpp xml_check.cpp LIBS triphase::trainer TIMEOUT 180)
set_tests_properties(trainer_report_browser_test PROPERTIES SKIP_REGULAR_EXPRESSION "there is no chromium here")
triphase_add_test(trainer_evaluation_test
  SOURCES evaluation_test.cpp evaluation_groups_test.cpp evaluation_retrieval_test.cpp evaluation_run_test.cpp
    evaluation_scores_test.cpp evaluation_fixture.cpp run_fixture.cpp
  LIBS triphase::trainer TORCH_PCH TIMEOUT 300)
triphase_add_test(trainer_evaluation_ranks_test
  SOURCES evaluation_ranks_test.cpp evaluation_fixture.cpp run_fixture.cpp
  LIBS triphase::trainer MPI::MPI_CXX NP 1 2 3 TORCH_PCH TIMEOUT 300)
