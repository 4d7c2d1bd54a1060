// SPDX-License-Identifier: Apache-2.0
#include "launch/evaluation_summary.hpp"

#include <gtest/gtest.h>

namespace triphase::launch {
namespace {

Json figures(const Json& auc, const Json& f1) {
  const auto interval = [](const Json& value) { return value.is_null() ? Json() : Json{0.25, 1.0}; };
  return {{"auc", auc}, {"auc_ci95", interval(auc)}, {"f1", f1}, {"f1_ci95", interval(f1)}};
}

TEST(EvaluationSummary, ShowsEveryFigureWithItsInterval) {
  Json finding = figures(0.8, 0.5);
  finding["linear_probe"] = figures(0.9, 0.75);
  const std::string text = evaluation_summary({{"split", "test"}, {"n", 12}, {"findings", {{"hcc", finding}}}});
  EXPECT_NE(text.find("split test, 12 studies\n"), std::string::npos) << text;
  EXPECT_NE(text.find("hcc              prompts  AUC 0.8000 [0.25, 1]  F1 0.5000 [0.25, 1]\n"), std::string::npos) << text;
  EXPECT_NE(text.find("hcc              probe    AUC 0.9000 [0.25, 1]  F1 0.7500 [0.25, 1]\n"), std::string::npos) << text;
}

/// A validation split without a positive gives no threshold, and a split without one no AUC.
TEST(EvaluationSummary, SaysNoneAndWhyWhereASplitGivesNoFigure) {
  for (const Json& auc : {Json(0.5), Json()}) {
    Json finding = figures(auc, Json());
    finding["reason"] = "no threshold: split 'validation' has 0 positive samples";
    finding["linear_probe"] = Json();
    const std::string text = evaluation_summary({{"split", "test"}, {"n", 1}, {"findings", {{"cyst", finding}}}});
    EXPECT_NE(text.find("F1 none\n"), std::string::npos) << text;
    EXPECT_EQ(text.find("AUC none") != std::string::npos, auc.is_null()) << text;
    EXPECT_NE(text.find("has 0 positive samples"), std::string::npos) << text;
    EXPECT_EQ(text.find("probe"), std::string::npos) << text;
  }
}

}  // namespace
}  // namespace triphase::launch
