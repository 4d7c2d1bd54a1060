// SPDX-License-Identifier: Apache-2.0
#include "tests/trainer/evaluation_fixture.hpp"

#include <ATen/Parallel.h>

#include "trainer/evaluate_model.hpp"

namespace triphase::test {

EvaluationSubject evaluation_subject(const std::filesystem::path& output_dir,
                                     const Settings& changes) {
  at::set_num_threads(1);  // bits depend on it
  Settings settings = changes;
  settings.emplace("evaluate.bootstrap_samples", "40");
  EvaluationSubject subject;
  subject.config = tiny_run(output_dir, settings);
  subject.model = trainer::load_model_for_evaluation(subject.config, "").model;
  subject.cache = std::make_unique<data::Cache>(subject.config.data.cache);
  return subject;
}

std::string one_finding(const std::string& name) {
  return "[[finding]]\nname = \"" + name +
         "\"\npositive = [\"hepatocellular carcinoma\", \"a mass\"]\nnegative = [\"no mass\"]\n";
}

std::vector<std::int64_t> all_samples(const data::Cache& cache) {
  std::vector<std::int64_t> indices;
  for (std::size_t i = 0; i < cache.entries().size(); ++i)
    indices.push_back(static_cast<std::int64_t>(i));
  return indices;
}

}  // namespace triphase::test
