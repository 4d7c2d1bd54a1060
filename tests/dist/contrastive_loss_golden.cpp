// SPDX-License-Identifier: Apache-2.0
// Parity with torch's own formula and autograd; see tests/reference/make_training.py.
#include <ATen/ops/empty.h>

#include <algorithm>
#include <set>

#include "tests/dist/backends.hpp"
#include "tests/dist/contrastive_case.hpp"
#include "tests/support/golden.hpp"
#include "tests/support/test_support.hpp"

namespace triphase::test {
namespace {

TRIPHASE_CONTRACT(ContrastiveLossGolden);

at::Tensor tensor_of(const Golden& golden, const std::string& name) {
  const GoldenTensor& stored = golden.at(name);
  at::Tensor tensor = at::empty(stored.shape, at::kDouble);
  std::copy(stored.values.begin(), stored.values.end(), tensor.data_ptr<double>());
  return tensor;
}

/// What stands before the first dot of the names.
std::set<std::string> cases_of(const Golden& golden) {
  std::set<std::string> names;
  for (const auto& [name, tensor] : golden.tensors()) names.insert(name.substr(0, name.find('.')));
  return names;
}

TEST_P(ContrastiveLossGolden, EveryCaseEqualsTorch) {
  GetParam().run([](dist::ProcessGroup& group) {
    const Golden golden = load_golden("training/infonce");
    int num_cases = 0;
    for (const std::string& name : cases_of(golden)) {
      const auto get = [&](const std::string& part) {
        return tensor_of(golden, name + "." + part);
      };
      const ContrastiveCase joined{get("image"), get("text"), get("log_scale")};
      const ContrastiveCase expected{get("d_image"), get("d_text"), get("d_log_scale"),
                                     get("loss").item<double>()};
      if (joined.image.size(0) % group.num_ranks() != 0) continue;
      ++num_cases;
      const ContrastiveCase gradient = part_of(expected, group);
      const ContrastiveCase actual = run_loss(part_of(joined, group), group, 5);
      // float64, logits up to 100: a few roundings of them.
      EXPECT_NEAR(actual.loss, expected.loss, 1e-12) << name;
      EXPECT_LT(difference(actual.image, gradient.image), 1e-11) << name;
      EXPECT_LT(difference(actual.text, gradient.text), 1e-11) << name;
      EXPECT_LT(difference(actual.log_scale, expected.log_scale), 1e-11) << name;
    }
    const bool divides_12 = 12 % group.num_ranks() == 0;
    if (divides_12) {
      EXPECT_GE(num_cases, 8);
    }
  });
}

}  // namespace
}  // namespace triphase::test
